// Which services and endpoints an exposition speaks of: those that moved, not those that have been
// idle for long, and no more than a cap. Works on plain arrays, so that tests need no kernel.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "abi/endpoint.h"
#include "abi/service.h"
#include "agent/observe/readings.h"

namespace weft::observe {

struct SeriesOptions {
  // After this long without a change a series is left out, until it moves again; its counter goes
  // on from where it was.
  std::chrono::seconds idle = std::chrono::minutes(10);
  std::size_t max_endpoint_series = 10000;
  std::size_t max_service_series = 20000;
};

// The arrays of the data path, as mapped into memory; index 0 is nobody's in all but `services`.
struct ArraysView {
  std::span<const std::uint64_t> services;
  std::span<const weft_service_state> service_states;
  std::span<const weft_endpoint> endpoints;
  std::span<const weft_endpoint_state> endpoint_states;
};

struct ServiceName {
  std::uint32_t index = 0;  // into weft_services
  std::string namespace_name, name;
  std::uint16_t port = 0;
  bool udp = false;
};

class Series {
 public:
  explicit Series(const SeriesOptions& options) : options_(options) {}

  // Replaces all names. Indexes of one name, port and protocol (its IPv4 and its IPv6 half) become
  // one.
  void set_names(std::vector<ServiceName> names);

  // Fills services, endpoints, endpoint_counts and the two dropped counters.
  void collect(const ArraysView& arrays, Clock::time_point now, Readings& readings);

 private:
  // When a counter was last seen to change.
  struct Seen {
    std::uint64_t total = 0;
    std::uint32_t incarnation = 0;
    bool known = false;
    Clock::time_point changed{};
  };
  bool is_fresh(Seen& seen, std::uint64_t total, std::uint32_t incarnation, bool in_use,
                Clock::time_point now) const;
  void collect_services(const ArraysView& arrays, Clock::time_point now, Readings& readings);
  void collect_endpoints(const ArraysView& arrays, Clock::time_point now, Readings& readings);

  static constexpr std::uint32_t kNone = ~0u;

  SeriesOptions options_;
  std::vector<ServiceName> groups_;
  std::vector<std::uint32_t> group_of_;  // by service index; kNone: no name
  std::vector<Seen> seen_services_, seen_endpoints_;
  std::uint64_t services_dropped_ = 0, endpoints_dropped_ = 0;
};

}  // namespace weft::observe
