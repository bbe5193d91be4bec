#include "agent/reconcile/plan.h"

#include <algorithm>

namespace weft::reconcile {
namespace {

using compile::MapState;
using compile::PlacedPort;
using compile::PlacedService;

// Operations by phase; the plan is their concatenation.
struct Phases {
  std::vector<MapOp> labels, infos, endpoints, ranges, policies, records, upserts, erases,
      emptied_records;
  std::vector<MapOp> cleared_endpoints, cleared_records, erased_infos, erased_labels;
};

const PlacedPort* find_port(const PlacedService* service, const compile::PortKey& key) {
  if (!service) return nullptr;
  const auto at = std::lower_bound(service->ports.begin(), service->ports.end(), key,
                                   [](const PlacedPort& p, const auto& k) { return p.key < k; });
  return at != service->ports.end() && at->key == key ? &*at : nullptr;
}

class Differ {
 public:
  void service(const PlacedService* before, const PlacedService* after) {
    if (after)
      for (const auto& port : after->ports)
        upsert_port(after->key, find_port(before, port.key), port);
    if (before)
      for (const auto& port : before->ports) retire_port(port, find_port(after, port.key));
  }

  void labels(const MapState& before, const MapState& after) {
    if (before.labels == after.labels) return;
    for (const auto& [id, text] : *after.labels) {
      const auto old = before.labels->find(id);
      if (old == before.labels->end() || old->second != text)
        phases_.labels.push_back(WriteLabel{id, text});
    }
    for (const auto& [id, text] : *before.labels)
      if (!after.labels->contains(id)) {
        phases_.erased_labels.push_back(EraseLabel{id});
        releases_.labels.push_back(id);
      }
  }

  Plan plan(std::uint64_t generation) && {
    Plan plan;
    const auto append = [](std::vector<MapOp>& to, std::vector<MapOp>& from) {
      std::move(from.begin(), from.end(), std::back_inserter(to));
    };
    for (auto* phase :
         {&phases_.labels, &phases_.infos, &phases_.endpoints, &phases_.ranges, &phases_.policies,
          &phases_.records, &phases_.upserts, &phases_.erases, &phases_.emptied_records})
      append(plan.ops, *phase);
    for (auto* phase : {&phases_.cleared_records, &phases_.cleared_endpoints, &phases_.erased_infos,
                        &phases_.erased_labels})
      append(plan.cleanup, *phase);
    if (!plan.ops.empty()) {
      plan.ops.insert(plan.ops.begin(), BeginGeneration{generation});
      plan.ops.push_back(CommitGeneration{generation});
    }
    plan.releases = std::move(releases_);
    return plan;
  }

 private:
  void upsert_port(const model::ServiceKey& service, const PlacedPort* old,
                   const PlacedPort& port) {
    if (!old || old->name != port.name)
      phases_.infos.push_back(WriteInfo{port.index, compile::info_of(service, port)});
    upsert_endpoints(old, port);
    const bool moved = !port.slots.empty() && (!old || old->publication != port.publication);
    if (moved) phases_.ranges.push_back(WriteRange{port.base, compile::range_words(port)});
    if (!old || !(old->policy == port.policy))
      phases_.policies.push_back(WritePolicy{port.index, port.policy});
    if (!old || old->record() != port.record()) {
      auto& phase = old && port.slots.empty() ? phases_.emptied_records : phases_.records;
      phase.push_back(PublishRecord{port.index, port.record(), old == nullptr});
    }
    for (const auto& address : port.frontends)
      if (!old || !std::binary_search(old->frontends.begin(), old->frontends.end(), address))
        phases_.upserts.push_back(
            UpsertFrontend{compile::frontend_key(address, port.key), port.index});
  }

  void upsert_endpoints(const PlacedPort* old, const PlacedPort& port) {
    auto known = old ? old->endpoints.begin() : port.endpoints.end();
    const auto end = old ? old->endpoints.end() : port.endpoints.end();
    for (const auto& endpoint : port.endpoints) {
      const auto where = std::pair(endpoint.address, endpoint.port);
      while (known != end && std::pair(known->address, known->port) < where) ++known;
      const bool same_id = known != end && known->address == endpoint.address &&
                           known->port == endpoint.port && known->id == endpoint.id;
      if (same_id && *known == endpoint) continue;
      phases_.endpoints.push_back(
          WriteEndpoint{endpoint.id, compile::to_abi(endpoint, port.index), !same_id});
    }
  }

  void retire_port(const PlacedPort& old, const PlacedPort* port) {
    for (const auto& address : old.frontends)
      if (!port || !std::binary_search(port->frontends.begin(), port->frontends.end(), address)) {
        phases_.erases.push_back(EraseFrontend{compile::frontend_key(address, old.key), old.index});
        ++releases_.frontends;
      }
    auto kept = port ? port->endpoints.begin() : old.endpoints.end();
    const auto end = port ? port->endpoints.end() : old.endpoints.end();
    for (const auto& endpoint : old.endpoints) {
      const auto where = std::pair(endpoint.address, endpoint.port);
      while (kept != end && std::pair(kept->address, kept->port) < where) ++kept;
      if (kept != end && kept->id == endpoint.id) continue;
      phases_.cleared_endpoints.push_back(ClearEndpoint{endpoint.id});
      releases_.endpoints.push_back(endpoint.id);
    }
    if (!old.slots.empty() &&
        (!port || port->slots.empty() || port->publication != old.publication))
      releases_.ranges.push_back({old.base, old.range_length()});
    if (port) return;
    phases_.cleared_records.push_back(ClearRecord{old.index});
    phases_.erased_infos.push_back(EraseInfo{old.index});
    releases_.services.push_back(old.index);
  }

  Phases phases_;
  compile::Releases releases_;
};

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

}  // namespace

Plan diff(const MapState& actual, const MapState& desired) {
  Differ differ;
  differ.labels(actual, desired);
  model::BucketTable<PlacedService>::for_each_change(
      actual.services, desired.services, [&](const auto* before, const auto* after) {
        differ.service(before ? before->get() : nullptr, after ? after->get() : nullptr);
      });
  return std::move(differ).plan(desired.generation);
}

PlanSize size_of(const Plan& plan) {
  PlanSize size;
  const auto count = Overloaded{
      [&](const WriteLabel&) { ++size.labels; },
      [&](const WriteInfo&) { ++size.infos; },
      [&](const WriteEndpoint&) { ++size.endpoints; },
      [&](const WriteRange& range) { size.slots += range.words.size(); },
      [&](const WritePolicy&) { ++size.policies; },
      [&](const PublishRecord&) { ++size.records; },
      [&](const UpsertFrontend&) { ++size.frontends; },
      [&](const BeginGeneration&) {},
      [&](const CommitGeneration&) {},
      [&](const auto&) { ++size.erased; },
  };
  for (const auto& op : plan.ops) std::visit(count, op);
  for (const auto& op : plan.cleanup) std::visit(count, op);
  size.entries = size.labels + size.infos + size.endpoints + size.slots + size.policies +
                 size.records + size.frontends + size.erased;
  return size;
}

}  // namespace weft::reconcile
