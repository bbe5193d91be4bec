// The breaker table and its kin, mmap-ed: arrays that the kernel's programs and weftd work on, too.
// The proxy may make no bpf() call; memory is all it needs.
#pragma once

#include <cstddef>
#include <cstdint>

#include <absl/status/statusor.h>

#include "abi/breaker.h"
#include "abi/capture.h"
#include "abi/endpoint.h"
#include "abi/service.h"

namespace weft::net {

class KernelTables {
 public:
  // Descriptors of array maps; they are not needed after it. Lives as long as the process.
  static absl::StatusOr<KernelTables> map(int endpoint_states, int policies, int service_states);
  // The word of its generation in which a proxy tells that it lives; null: the descriptor is no
  // such map, as an earlier weftd gives none.
  static std::uint64_t* map_beat(int proxy_state, std::uint32_t column);

  weft_endpoint_state* endpoint(std::uint32_t id) const { return at(endpoints_, id); }
  const weft_policy* policy(std::uint32_t service) const { return at(policies_, service); }
  weft_service_state* service(std::uint32_t service) const { return at(services_, service); }

 private:
  template <class T>
  struct Table {
    T* first = nullptr;
    std::size_t count = 0;
  };
  template <class T>
  static T* at(const Table<T>& table, std::uint32_t index) {
    return index && index < table.count ? table.first + index : nullptr;
  }

  Table<weft_endpoint_state> endpoints_;
  Table<weft_policy> policies_;
  Table<weft_service_state> services_;
};

}  // namespace weft::net
