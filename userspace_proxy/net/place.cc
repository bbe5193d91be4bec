#include "userspace_proxy/net/place.h"

namespace weft::net {
namespace {

std::uint32_t load(const std::uint32_t& word) { return __atomic_load_n(&word, __ATOMIC_SEQ_CST); }

// Of an endpoint or a service.
template <class State>
std::uint32_t connections(const State& state) {
  std::uint32_t sum = load(state.active);
  for (const auto& column : state.connections) sum += load(column);
  return sum;
}

template <class State>
bool reserve(State& state, std::uint32_t column, std::uint32_t most) {
  __atomic_fetch_add(&state.connections[column], 1, __ATOMIC_SEQ_CST);
  if (!most || connections(state) <= most) return true;
  one_less(state.connections[column]);
  return false;
}

}  // namespace

bool is_current(const Shares& shares) {
  return load(shares.state->incarnation) == shares.incarnation;
}

void one_less(std::uint32_t& word) {
  auto seen = load(word);
  while (seen && !__atomic_compare_exchange_n(&word, &seen, seen - 1, false, __ATOMIC_SEQ_CST,
                                              __ATOMIC_SEQ_CST)) {
  }
}

Room Place::take(SharesPtr shares) {
  give_back();
  if (!is_current(*shares)) return Room::kYes;
  const auto& policy = *shares->policy;
  service_incarnation_ = load(shares->total->incarnation);
  if (!reserve(*shares->total, shares->column, load(policy.max_connections)))
    return Room::kServiceFull;
  if (!reserve(*shares->state, shares->column, load(policy.max_per_endpoint))) {
    one_less(shares->total->connections[shares->column]);
    return Room::kEndpointFull;
  }
  shares_ = std::move(shares);
  return Room::kYes;
}

void Place::give_back() {
  const auto shares = std::exchange(shares_, nullptr);
  if (!shares) return;
  if (is_current(*shares)) one_less(shares->state->connections[shares->column]);
  if (load(shares->total->incarnation) == service_incarnation_)
    one_less(shares->total->connections[shares->column]);
}

bool Place::is_free(const Shares& shares) {
  const auto of_service = load(shares.policy->max_connections);
  const auto of_endpoint = load(shares.policy->max_per_endpoint);
  return (!of_service || connections(*shares.total) < of_service) &&
         (!of_endpoint || connections(*shares.state) < of_endpoint);
}

}  // namespace weft::net
