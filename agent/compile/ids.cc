#include "agent/compile/ids.h"

#include <algorithm>

namespace weft::compile {

Limits Limits::of(std::uint32_t max_services, std::uint32_t max_endpoints) {
  Limits limits;
  limits.services = max_services;
  limits.frontends = 2 * max_services;
  limits.endpoints = max_endpoints;
  limits.slots = std::min<std::uint64_t>(4ull * max_endpoints, WEFT_MAX_SLOTS);
  return limits;
}

RangeAllocator::RangeAllocator(std::uint32_t size) {
  if (size) insert(0, size);
}

void RangeAllocator::insert(std::uint32_t base, std::uint32_t length) {
  free_.emplace(base, length);
  by_length_.emplace(length, base);
}

void RangeAllocator::remove(std::map<std::uint32_t, std::uint32_t>::iterator at) {
  by_length_.erase({at->second, at->first});
  free_.erase(at);
}

std::optional<std::uint32_t> RangeAllocator::take(std::uint32_t length) {
  const auto fit = by_length_.lower_bound({length, 0});
  if (fit == by_length_.end()) return std::nullopt;
  const auto [extent, base] = *fit;
  remove(free_.find(base));
  if (extent > length) insert(base + length, extent - length);
  used_ += length;
  return base;
}

void RangeAllocator::take_at(std::uint32_t base, std::uint32_t length) {
  auto at = free_.upper_bound(base);
  if (at == free_.begin()) return;
  --at;
  const auto [start, extent] = *at;
  if (base + length > start + extent)
    return;  // overlaps what is taken: the reader ignores such ranges
  remove(at);
  if (base > start) insert(start, base - start);
  if (start + extent > base + length) insert(base + length, start + extent - base - length);
  used_ += length;
}

void RangeAllocator::release(std::uint32_t base, std::uint32_t length) {
  used_ -= length;
  auto next = free_.lower_bound(base);
  if (next != free_.end() && next->first == base + length) {
    length += next->second;
    remove(next);
    next = free_.lower_bound(base);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == base) {
      base = before->first;
      length += before->second;
      remove(before);
    }
  }
  insert(base, length);
}

std::optional<std::uint32_t> NumberAllocator::take() {
  std::uint32_t number;
  if (!free_.empty()) {
    number = *free_.begin();
    free_.erase(free_.begin());
  } else if (next_ < size_) {
    number = next_++;
  } else {
    return std::nullopt;
  }
  ++used_;
  return number;
}

void NumberAllocator::take_at(std::uint32_t number) {
  if (number >= next_) {
    for (; next_ < number; ++next_) free_.insert(free_.end(), next_);
    ++next_;
  } else if (!free_.erase(number)) {
    return;  // taken already
  }
  ++used_;
}

void NumberAllocator::release(std::uint32_t number) {
  if (free_.insert(number).second) --used_;
}

Ids::Ids(const Limits& l)
    : limits(l),
      services(l.services),
      endpoints(l.endpoints),
      slots(l.slots),
      label_numbers(l.labels) {}

Ids::Ids(const Limits& l, const MapState& state) : Ids(l) {
  state.services.for_each([&](const auto& service) {
    for (const auto& port : service->ports) {
      services.take_at(port.index);
      for (const auto& endpoint : port.endpoints) endpoints.take_at(endpoint.id);
      if (!port.slots.empty()) slots.take_at(port.base, port.range_length());
      frontends_used += port.frontends.size();
    }
  });
  for (const auto& [id, text] : *state.labels) {
    label_numbers.take_at(id);
    label_ids.emplace(text, id);
  }
}

std::uint32_t Ids::label(const std::string& text) {
  if (text.empty()) return 0;
  if (const auto known = label_ids.find(text); known != label_ids.end()) return known->second;
  const auto id = label_numbers.take();
  if (!id) return 0;
  label_ids.emplace(text, *id);
  return *id;
}

void Ids::release(const Releases& releases) {
  for (const auto index : releases.services) services.release(index);
  for (const auto id : releases.endpoints) endpoints.release(id);
  for (const auto id : releases.labels) label_numbers.release(id);
  for (const auto& range : releases.ranges) slots.release(range.base, range.length);
  frontends_used -= releases.frontends;
}

}  // namespace weft::compile
