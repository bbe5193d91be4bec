#include "agent/app/health_checks.h"

#include <utility>

#include "mesh/base/log.h"

namespace weft::app {
namespace {

bool contains(const health::Unhealthy& unhealthy, const health::Row& row) {
  const auto at = unhealthy.find(row.service);
  return at != unhealthy.end() && at->second.contains({row.address, row.port});
}

// Whether by a check or by its source: who is checked now says.
health::Unhealthy not_ready(const compile::MapState& state) {
  health::Unhealthy found;
  state.services.for_each([&](const auto& service) {
    for (const auto& port : service->ports)
      for (const auto& endpoint : port.endpoints)
        if (endpoint.state == model::EndpointState::kNotReady)
          found[service->key].insert({endpoint.address, endpoint.port});
  });
  return found;
}

}  // namespace

HealthChecks::HealthChecks(boost::asio::io_context& io, const std::string& node,
                           const compile::MapState& inherited, std::function<void()> changed)
    : changed_(std::move(changed)),
      // Nodes that start together must not check together.
      checker_(io, {.limits = {}, .seed = std::hash<std::string>()(node)}, [this] {
        tell_of_changes();
        changed_();
      }) {
  checker_.inherit(not_ready(inherited));
}

model::MeshPtr HealthChecks::apply(const model::MeshPtr& mesh) {
  checker_.follow(*mesh);
  if (checker_.unhealthy() != told_) tell_of_changes();
  return overlay_.apply(mesh, checker_.unhealthy());
}

observe::HealthPtr HealthChecks::list() {
  if (std::exchange(listed_, checker_.changes()) == checker_.changes()) return list_;
  auto list = std::make_shared<std::vector<observe::EndpointHealth>>();
  for (auto& row : checker_.list()) {
    auto& shown = list->emplace_back();
    shown.service = std::move(row.service);
    shown.address = row.address;
    shown.port = row.port;
    if (row.verdict.state != health::State::kUnknown) shown.healthy = row.verdict.healthy();
    shown.reason = std::move(row.reason);
    if (!row.verdict.healthy() && row.verdict.last_ok) shown.reason += ", not often enough yet";
  }
  list_ = std::move(list);
  return list_;
}

observe::ProbeCounts HealthChecks::probes() const {
  const auto counts = checker_.counts();
  return {counts.ok, counts.failed, counts.not_asked};
}

void HealthChecks::tell_of_changes() {
  for (const auto& row : checker_.list()) {
    const bool is = contains(checker_.unhealthy(), row), was = contains(told_, row);
    if (is == was) continue;
    log::write(is ? log::Level::kWarning : log::Level::kInfo, "health",
               {{"service", row.service.to_text()},
                {"address", row.address.to_text()},
                {"port", row.port},
                {"state", is ? "unhealthy" : "healthy"},
                {"reason", row.reason}});
  }
  told_ = checker_.unhealthy();
}

}  // namespace weft::app
