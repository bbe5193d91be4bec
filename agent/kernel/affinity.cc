#include "agent/kernel/affinity.h"

#include <ctime>
#include <vector>

namespace weft::kernel {

absl::StatusOr<std::size_t> expire_affinities(Maps& maps) {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);  // bpf_ktime_get_ns() of the programs
  const std::uint64_t now = time.tv_sec * 1000000000ull + time.tv_nsec;
  std::vector<weft_affinity_key> expired;
  auto status =
      maps.affinities.for_each([&](const weft_affinity_key& key, const weft_affinity& entry) {
        if (entry.expires_ns < now) expired.push_back(key);
      });
  if (!status.ok()) return status;
  // A client that comes back between the look and the erase picks afresh, as an expired one would.
  for (const auto& key : expired)
    if (status = maps.affinities.erase(key); !status.ok()) return status;
  return expired.size();
}

}  // namespace weft::kernel
