#include "userspace_proxy/net/kernel_tables.h"

#include <sys/mman.h>

#include <cerrno>
#include <fstream>
#include <string>

namespace weft::net {
namespace {

struct Size {
  std::size_t value = 0, entries = 0;
};

// BPF_OBJ_GET_INFO_BY_FD would be a bpf() call; procfs says the same.
Size size_of(int fd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
  std::string key;
  Size size;
  while (info >> key) {
    if (key == "value_size:") info >> size.value;
    if (key == "max_entries:") info >> size.entries;
  }
  return size;
}

absl::StatusOr<void*> map_array(int fd, std::size_t value_size, int protection,
                                std::size_t& count) {
  const auto size = size_of(fd);
  if (size.value != value_size)
    return absl::FailedPreconditionError("descriptor " + std::to_string(fd) + " is no map of " +
                                         std::to_string(value_size) + " byte values");
  count = size.entries;
  void* memory = mmap(nullptr, size.value * size.entries, protection, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED)
    return absl::ErrnoToStatus(errno, "mmap of the map in descriptor " + std::to_string(fd));
  return memory;
}

}  // namespace

absl::StatusOr<KernelTables> KernelTables::map(int endpoint_states, int policies,
                                               int service_states) {
  KernelTables tables;
  auto first = map_array(endpoint_states, sizeof(weft_endpoint_state), PROT_READ | PROT_WRITE,
                         tables.endpoints_.count);
  if (!first.ok()) return first.status();
  tables.endpoints_.first = static_cast<weft_endpoint_state*>(*first);
  first = map_array(policies, sizeof(weft_policy), PROT_READ, tables.policies_.count);
  if (!first.ok()) return first.status();
  tables.policies_.first = static_cast<weft_policy*>(*first);
  first = map_array(service_states, sizeof(weft_service_state), PROT_READ | PROT_WRITE,
                    tables.services_.count);
  if (!first.ok()) return first.status();
  tables.services_.first = static_cast<weft_service_state*>(*first);
  return tables;
}

std::uint64_t* KernelTables::map_beat(int proxy_state, std::uint32_t column) {
  std::size_t count = 0;
  const auto first =
      map_array(proxy_state, sizeof(weft_proxy_state), PROT_READ | PROT_WRITE, count);
  if (!first.ok()) return nullptr;
  static_assert(sizeof(__u64) == sizeof(std::uint64_t));
  auto* state = static_cast<weft_proxy_state*>(*first);
  return reinterpret_cast<std::uint64_t*>(&state->beat_ns[column % WEFT_PROXY_GENERATIONS]);
}

}  // namespace weft::net
