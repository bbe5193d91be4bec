#include "agent/compile/compile.h"

#include <algorithm>
#include <map>

#include "agent/compile/policy.h"
#include "mesh/lb/policy.h"
#include "mesh/lb/priority.h"

namespace weft::compile {
namespace {

using model::Family;

std::uint32_t selector_of(lb::Selector selector) {
  switch (selector) {
    case lb::Selector::kRotate:
      return WEFT_SELECT_ROTATE;
    case lb::Selector::kRandom:
      return WEFT_SELECT_RANDOM;
    case lb::Selector::kHash:
      return WEFT_SELECT_HASH;
    case lb::Selector::kLeast:
      return WEFT_SELECT_LEAST;
    case lb::Selector::kEwma:
      return WEFT_SELECT_EWMA;
  }
  __builtin_unreachable();
}

// Families a service port is placed in: those of its addresses; where it has none (headless, or
// nobody assigned any) those of its endpoints, so that listing and `why` still show them.
std::vector<Family> families_of(const model::Service& service, const model::ServicePort& port) {
  bool v4 = false, v6 = false;
  for (const auto& address : service.addresses)
    (address.family() == Family::kIpv4 ? v4 : v6) = true;
  if (!v4 && !v6)
    for (const auto& endpoint : port.endpoints)
      (endpoint.address.family() == Family::kIpv4 ? v4 : v6) = true;
  if (!v6) return {Family::kIpv4};
  if (!v4) return {Family::kIpv6};
  return {Family::kIpv4, Family::kIpv6};
}

// Endpoints of the frontend's own family, as Kubernetes has it; where there are none at all, the
// other family's: an IPv6 socket that is not V6ONLY reaches IPv4 too.
std::vector<model::Endpoint> endpoints_for(Family family, const std::vector<model::Endpoint>& all) {
  std::vector<model::Endpoint> own;
  std::copy_if(all.begin(), all.end(), std::back_inserter(own),
               [&](const auto& endpoint) { return endpoint.address.family() == family; });
  return own.empty() ? all : own;
}

const PlacedPort* port_of(const PlacedService& placed, const PortKey& key) {
  const auto port = std::find_if(placed.ports.begin(), placed.ports.end(),
                                 [&](const PlacedPort& p) { return p.key == key; });
  return port == placed.ports.end() ? nullptr : &*port;
}

// The placement of one service; everything it takes is in `taken`, for the way back.
class Placer {
 public:
  Placer(const PlacedService* previous, Ids& ids, std::uint64_t generation)
      : previous_(previous), ids_(ids), generation_(generation) {}

  // Null, with `error` set and nothing taken, where a map is too small.
  std::shared_ptr<const PlacedService> place(const model::ServiceKey& key,
                                             const std::vector<PortLayout>& layouts) {
    auto placed = std::make_shared<PlacedService>();
    placed->key = key;
    for (const auto& layout : layouts) {
      placed->ports.emplace_back();
      if (!place_port(layout, placed->ports.back())) {
        ids_.release(taken_);
        return nullptr;
      }
    }
    return placed;
  }

  std::string error;

 private:
  bool full(const char* map, std::uint64_t needed, std::uint32_t size, const char* flag) {
    error = std::string(map) + " holds " + std::to_string(size) + " entries and at least " +
            std::to_string(needed) + " are needed: raise " + flag;
    return false;
  }

  bool place_port(const PortLayout& layout, PlacedPort& port) {
    const PlacedPort* old = previous_ ? port_of(*previous_, layout.key) : nullptr;
    port.key = layout.key;
    port.name = layout.name;
    port.frontends = layout.frontends;
    port.selector = layout.selector;
    port.affinity_seconds = layout.affinity_seconds;
    port.policy = layout.policy;
    return place_index(old, port) && place_frontends(old, port) &&
           place_endpoints(old, layout, port) && place_slots(old, layout, port);
  }

  bool place_index(const PlacedPort* old, PlacedPort& port) {
    if (old) {
      port.index = old->index;
      return true;
    }
    const auto index = ids_.services.take();
    if (!index)
      return full("weft_services", ids_.services.used() + 2ull, ids_.limits.services,
                  "--max-services");
    taken_.services.push_back(port.index = *index);
    return true;
  }

  bool place_frontends(const PlacedPort* old, const PlacedPort& port) {
    std::uint32_t fresh = 0;
    for (const auto& address : port.frontends)
      fresh += !old || !std::binary_search(old->frontends.begin(), old->frontends.end(), address);
    if (ids_.frontends_used + fresh > ids_.limits.frontends)
      return full("weft_frontends", std::uint64_t{ids_.frontends_used} + fresh,
                  ids_.limits.frontends, "--max-services (it holds twice that)");
    ids_.frontends_used += fresh;
    taken_.frontends += fresh;
    return true;
  }

  bool place_endpoints(const PlacedPort* old, const PortLayout& layout, PlacedPort& port) {
    port.endpoints.reserve(layout.endpoints.size());
    auto known = old ? old->endpoints.begin() : std::vector<PlacedEndpoint>::const_iterator{};
    for (const auto& endpoint : layout.endpoints) {
      PlacedEndpoint placed{0,
                            endpoint.address,
                            endpoint.port,
                            endpoint.state,
                            endpoint.priority,
                            endpoint.weight,
                            static_cast<std::uint16_t>(ids_.label(endpoint.zone)),
                            ids_.label(endpoint.node)};
      const auto where = std::pair(endpoint.address, endpoint.port);
      while (old && known != old->endpoints.end() && std::pair(known->address, known->port) < where)
        ++known;
      if (old && known != old->endpoints.end() && std::pair(known->address, known->port) == where) {
        placed.id = known->id;
      } else if (const auto id = ids_.endpoints.take()) {
        taken_.endpoints.push_back(placed.id = *id);
      } else {
        return full("weft_endpoints",
                    ids_.endpoints.used() + 1ull + layout.endpoints.size() - port.endpoints.size(),
                    ids_.limits.endpoints, "--max-endpoints");
      }
      port.endpoints.push_back(placed);
    }
    return true;
  }

  bool place_slots(const PlacedPort* old, const PortLayout& layout, PlacedPort& port) {
    if (layout.slots.size() > WEFT_MAX_COUNT)
      return full("a slot range", layout.slots.size(), WEFT_MAX_COUNT,
                  "nothing: split the service");
    port.slots.reserve(layout.slots.size());
    for (const auto i : layout.slots) port.slots.push_back(port.endpoints[i].id);
    for (const auto i : layout.spares) port.spares.push_back(port.endpoints[i].id);
    // The timeout and the generation lie in the range; without one there is nothing to read back.
    if (port.slots.empty()) port.affinity_seconds = 0;
    if (old && old->slots == port.slots && old->spares == port.spares &&
        old->selector == port.selector && old->affinity_seconds == port.affinity_seconds) {
      port.base = old->base;
      port.publication = old->publication;
      port.generation = old->generation;
      return true;
    }
    port.publication = old ? old->publication + 1 : 1;
    if (!port.publication) port.publication = 1;  // a record in use is never 0
    if (port.slots.empty()) return true;
    port.generation = generation_;
    const auto length = port.range_length();
    const auto base = ids_.slots.take(length);
    if (!base)
      return full("weft_slots", std::uint64_t{ids_.slots.used()} + length, ids_.limits.slots,
                  "--max-endpoints (it holds four times that)");
    port.base = *base;
    taken_.ranges.push_back({*base, length});
    return true;
  }

  const PlacedService* previous_;
  Ids& ids_;
  std::uint64_t generation_;
  Releases taken_;
};

struct Change {
  const model::Service* service = nullptr;  // null: gone from the mesh
  std::vector<PortLayout> layouts;
  std::size_t endpoints_before = 0;
  std::size_t endpoints_after = 0;
};

// By the id that the endpoint has now; one that is new has no breaker yet.
bool is_ejected(const Input& input, const PlacedService& placed, const PortKey& key,
                const model::Endpoint& endpoint) {
  const PlacedPort* port = port_of(placed, key);
  if (!port) return false;
  const auto where = std::pair(endpoint.address, endpoint.port);
  const auto at = std::lower_bound(port->endpoints.begin(), port->endpoints.end(), where,
                                   [](const PlacedEndpoint& e, const auto& wanted) {
                                     return std::pair(e.address, e.port) < wanted;
                                   });
  return at != port->endpoints.end() && std::pair(at->address, at->port) == where &&
         input.ejected->contains(at->id);
}

// A table that was read back from the maps counts like any other: a restart deals no key anew.
std::uint32_t table_size(const PlacedService& placed, const PortKey& key) {
  const PlacedPort* port = port_of(placed, key);
  const bool hashed = port && port->selector == WEFT_SELECT_HASH;
  return hashed ? static_cast<std::uint32_t>(port->slots.size()) : 0;
}

Change change_of(const Input& input, const model::ServicePtr* service,
                 const std::shared_ptr<const PlacedService>* placed) {
  Change change;
  if (placed) change.endpoints_before = (*placed)->endpoint_count();
  if (!service) return change;
  change.service = service->get();
  View view{input.here, {}, input.proxy, {}};
  if (placed) view.table_size = [&](const PortKey& key) { return table_size(**placed, key); };
  if (placed && input.ejected && !input.ejected->empty())
    view.is_ejected = [&](const PortKey& key, const model::Endpoint& endpoint) {
      return is_ejected(input, **placed, key, endpoint);
    };
  change.layouts = lay_out(*change.service, view);
  for (const auto& layout : change.layouts) change.endpoints_after += layout.endpoints.size();
  return change;
}

std::map<model::ServiceKey, Change> collect_changes(const Input& input) {
  std::map<model::ServiceKey, Change> changes;
  const auto add = [&](const model::ServiceKey& key) {
    if (changes.contains(key)) return;
    changes.emplace(
        key, change_of(input, input.after->services.find(key), input.placed->services.find(key)));
  };
  if (input.before) {
    model::BucketTable<model::Service>::for_each_change(
        input.before->services, input.after->services, [&](const auto* before, const auto* after) {
          add(after ? (*after)->key : (*before)->key);
        });
    for (const auto& key : input.pending) add(key);
    for (const auto& key : input.touched) add(key);
  } else {
    input.after->services.for_each([&](const auto& service) { add(service->key); });
    input.placed->services.for_each([&](const auto& service) { add(service->key); });
  }
  return changes;
}

// A service that was refused or held back keeps its old place, but not the addresses that the mesh
// has given to others: two services never claim one frontend.
void yield_frontends(const std::map<model::ServiceKey, Change>& changes,
                     const std::set<model::ServiceKey>& pending, MapState& desired) {
  if (pending.empty()) return;
  std::set<std::pair<model::Address, PortKey>> claimed;
  for (const auto& [key, change] : changes) {
    const auto* service = pending.contains(key) ? nullptr : desired.services.find(key);
    if (!service) continue;
    for (const auto& port : (*service)->ports)
      for (const auto& address : port.frontends) claimed.emplace(address, port.key);
  }
  for (const auto& key : pending) {
    const auto* service = desired.services.find(key);
    if (!service) continue;
    auto kept = std::make_shared<PlacedService>(**service);
    for (auto& port : kept->ports)
      std::erase_if(port.frontends, [&](const auto& address) {
        return claimed.contains({address, port.key});
      });
    if (!(*kept == **service)) desired.set(key, std::move(kept));
  }
}

// Labels in use; after a comparison of everything, those that nobody uses are dropped.
std::shared_ptr<const std::map<std::uint32_t, std::string>> labels_of(const Input& input, Ids& ids,
                                                                      const MapState& desired) {
  if (input.before && input.placed->labels->size() == ids.label_ids.size())
    return input.placed->labels;
  if (!input.before) {
    std::set<std::uint32_t> used;
    desired.services.for_each([&](const auto& service) {
      for (const auto& port : service->ports)
        for (const auto& endpoint : port.endpoints) used.insert({endpoint.zone, endpoint.node});
    });
    std::erase_if(ids.label_ids, [&](const auto& entry) { return !used.contains(entry.second); });
  }
  auto labels = std::make_shared<std::map<std::uint32_t, std::string>>();
  for (const auto& [text, id] : ids.label_ids) labels->emplace(id, text);
  if (*labels == *input.placed->labels) return input.placed->labels;
  return labels;
}

}  // namespace

namespace {

// Programs look through so many slots for an endpoint that admits a connection
// (bpf/lib/pick.bpf.h), and through as many spares.
constexpr std::size_t kSearched = 248, kListed = 128;

// Of a table that is longer those that a search might miss: who has few slots is listed before the
// spares.
std::vector<std::uint32_t> lightest_of(const std::vector<std::uint32_t>& slots) {
  if (slots.size() <= kSearched) return {};
  std::map<std::uint32_t, std::size_t> shares;
  for (const auto endpoint : slots) ++shares[endpoint];
  std::vector<std::pair<std::size_t, std::uint32_t>> by_share;
  for (const auto& [endpoint, share] : shares) by_share.emplace_back(share, endpoint);
  std::sort(by_share.begin(), by_share.end());
  by_share.resize(std::min(by_share.size(), kListed));
  std::vector<std::uint32_t> lightest;
  for (const auto& [share, endpoint] : by_share) lightest.push_back(endpoint);
  return lightest;
}

// Who is in rotation and who stands by, and the slots that follow.
void fill_slots(const model::Service& service, const model::ServicePort& port, const View& view,
                PortLayout& layout) {
  const auto& endpoints = layout.endpoints;
  std::vector<bool> healthy(endpoints.size(), true);
  if (view.is_ejected)
    for (std::size_t i = 0; i < endpoints.size(); ++i)
      healthy[i] = !view.is_ejected(layout.key, endpoints[i]);
  auto choice = lb::choose(endpoints, healthy, service.traffic_of(port).failover_below_percent);
  const auto& policy = lb::policy_of(service.balancer_of(port));
  auto weighted = endpoints;
  lb::use(choice, weighted);
  const auto present = view.table_size ? view.table_size(layout.key) : 0;
  layout.slots = policy.fill(weighted, choice.rotation, present);
  layout.spares = lightest_of(layout.slots);
  layout.spares.insert(layout.spares.end(), choice.spares.begin(), choice.spares.end());
}

// Candidates of the first priority, and those of the later ones: the breaker's floor does not
// depend on who is in rotation just now. Those of weight 0 neither serve nor stand by (lb::choose):
// they are nobody who stays when the others are out.
std::pair<std::size_t, std::size_t> count_candidates(
    const std::vector<model::Endpoint>& endpoints) {
  auto candidates = lb::candidates(endpoints);
  std::erase_if(candidates, [&](std::uint32_t i) { return endpoints[i].weight == 0; });
  unsigned first = ~0u;
  for (const auto i : candidates) first = std::min(first, unsigned{endpoints[i].priority});
  const auto primaries = static_cast<std::size_t>(
      std::count_if(candidates.begin(), candidates.end(),
                    [&](std::uint32_t i) { return endpoints[i].priority == first; }));
  return {primaries, candidates.size() - primaries};
}

}  // namespace

std::vector<PortLayout> lay_out(const model::Service& service, const View& view) {
  std::vector<PortLayout> layouts;
  for (const auto& port : service.ports)
    for (const auto family : families_of(service, port)) {
      PortLayout layout;
      layout.key = {port.port, port.protocol, family};
      layout.name = port.name;
      for (const auto& address : service.addresses)
        if (address.family() == family) layout.frontends.push_back(address);
      layout.selector = selector_of(lb::policy_of(service.balancer_of(port)).selector);
      layout.affinity_seconds = service.affinity ? service.affinity->count() : 0;
      layout.endpoints = endpoints_for(family, port.endpoints);
      lb::apply(service.traffic_of(port).locality, view.here, layout.endpoints);
      fill_slots(service, port, view, layout);
      const auto [primaries, spares] = count_candidates(layout.endpoints);
      layout.policy = policy_of(service, port, primaries, spares);
      if (view.proxy) layout.policy.flags |= proxy_flags(service, port);
      layouts.push_back(std::move(layout));
    }
  std::sort(layouts.begin(), layouts.end(),
            [](const auto& a, const auto& b) { return a.key < b.key; });
  return layouts;
}

const model::ServiceKey kApiServer{"default", "kubernetes"};

Output compile(const Input& input, Ids& ids, std::uint64_t generation) {
  const auto changes = collect_changes(input);
  Output output;
  output.desired = *input.placed;
  output.endpoints_before = std::max(input.placed->endpoint_count, input.recent_peak);
  // Whoever takes the API server's last endpoint away takes the means to give it back.
  const auto is_kept = [&](const model::ServiceKey& key, const Change& change) {
    return key == kApiServer && change.endpoints_before && !change.endpoints_after &&
           !input.confirmed;
  };
  std::size_t lost = 0, gained = 0;
  for (const auto& [key, change] : changes) {
    if (is_kept(key, change)) continue;  // it is no loss to anybody
    if (change.endpoints_after > change.endpoints_before)
      gained += change.endpoints_after - change.endpoints_before;
    else if (!input.keep_absent)
      lost += change.endpoints_before - change.endpoints_after;
  }
  const std::size_t count = input.placed->endpoint_count;
  output.endpoints_after = count + gained - lost;
  output.allowance =
      input.allowance.value_or(count - std::min(count, (output.endpoints_before + 1) / 2));
  // Where nothing is held yet, what one change moves from one service to another is no loss.
  const std::size_t loss = input.allowance ? lost : lost - std::min(lost, gained);
  const bool hold = !input.allow_mass_removal && loss > output.allowance;

  for (const auto& [key, change] : changes) {
    const bool loses = change.endpoints_after < change.endpoints_before;
    if (is_kept(key, change)) {
      output.kept_api_server = true;
      output.pending.insert(key);
      continue;
    }
    if ((loses && (hold || input.keep_absent)) || (input.keep_absent && !change.service)) {
      output.held_back |= loses && hold;
      output.pending.insert(key);
      continue;
    }
    if (!change.service) {
      output.desired.set(key, nullptr);
      continue;
    }
    const auto* previous = input.placed->services.find(key);
    Placer placer(previous ? previous->get() : nullptr, ids, generation);
    auto placed = placer.place(key, change.layouts);
    if (!placed) {
      output.refused.push_back(key.to_text() + ": " + placer.error);
      output.pending.insert(key);
    } else if (!previous || !(**previous == *placed)) {
      output.desired.set(key, std::move(placed));
    }
  }
  yield_frontends(changes, output.pending, output.desired);
  output.desired.labels = labels_of(input, ids, output.desired);
  return output;
}

}  // namespace weft::compile
