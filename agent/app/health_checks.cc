#include "agent/app/health_checks.h"

#include <utility>

#include "mesh/base/log.h"

namespace weft::app {
namespace {

bool contains(const health::Unhealthy& unhealthy, const health::Row& row) {
  const auto at = unhealthy.find(row.service);
  return at != unhealthy.end() && at->second.contains({row.address, row.port});
}

}  // namespace

HealthChecks::HealthChecks(boost::asio::io_context& io, const std::string& node,
                           std::function<void()> changed)
    : changed_(std::move(changed)),
      // Nodes that start together must not check together.
      checker_(io, {.limits = {}, .seed = std::hash<std::string>()(node)}, [this] {
        tell_of_changes();
        changed_();
      }) {}

model::MeshPtr HealthChecks::apply(const model::MeshPtr& mesh) {
  checker_.follow(*mesh);
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
