#include "agent/kernel/capture.h"

#include <ctime>
#include <vector>

namespace weft::kernel {
namespace {

std::uint64_t monotonic_ns() {  // bpf_ktime_get_ns() of the programs
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ull + time.tv_nsec;
}

}  // namespace

absl::Status set_capture(Maps& maps, std::uint64_t netns_cookie, std::uint32_t listening) {
  if (!listening) return erase_capture(maps, netns_cookie);
  return maps.captures.update(netns_cookie, weft_capture_make(netns_cookie, listening));
}

absl::Status erase_capture(Maps& maps, std::uint64_t netns_cookie) {
  return maps.captures.erase(netns_cookie);
}

void set_proxy_up(const Maps& maps, bool up) {
  store(maps.proxy_state.at(0).up, std::uint64_t{up ? WEFT_PROXY_UP : WEFT_PROXY_DOWN});
}

void set_proxy_up_by(const Maps& maps, std::uint32_t column) {
  store(maps.proxy_state.at(0).up,
        std::uint64_t{WEFT_PROXY_COLUMN} + column % WEFT_PROXY_GENERATIONS);
}

bool proxy_is_up(const Maps& maps) {
  return weft_proxy_serves(&maps.proxy_state.at(0), monotonic_ns());
}

absl::StatusOr<base::Fd> open_own_sockets(const Pins& pins) {
  auto map = internal::open_map(pins.map("weft_own_sockets"), sizeof(int), sizeof(std::uint32_t),
                                Access::kReadWrite);
  if (!map.ok()) return map.status();
  return std::move(map->fd);
}

namespace {

// Read first: writing every page of an array that is mostly unused would make it resident.
void clear(std::uint32_t& word) {
  if (__atomic_load_n(&word, __ATOMIC_RELAXED)) __atomic_store_n(&word, 0, __ATOMIC_RELAXED);
}

}  // namespace

void clear_generation(const Maps& maps, std::uint32_t column) {
  column %= WEFT_PROXY_GENERATIONS;
  store(maps.proxy_state.at(0).beat_ns[column], std::uint64_t{0});
  for (auto& state : maps.endpoint_states.values()) {
    clear(state.requests[column]);
    clear(state.connections[column]);
  }
  for (auto& total : maps.service_states.values()) clear(total.connections[column]);
}

absl::StatusOr<std::size_t> sweep_originals(Maps& maps, std::chrono::nanoseconds age) {
  const auto now = monotonic_ns();
  const auto limit = static_cast<std::uint64_t>(age.count());
  std::vector<weft_origin_key> left;
  auto status =
      maps.originals.for_each([&](const weft_origin_key& key, const weft_original& entry) {
        if (entry.at_ns < now && now - entry.at_ns >= limit) left.push_back(key);
      });
  if (!status.ok()) return status;
  for (const auto& key : left)
    if (status = maps.originals.erase(key); !status.ok()) return status;
  return left.size();
}

}  // namespace weft::kernel
