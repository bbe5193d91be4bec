#include "agent/reconcile/reconciler.h"

#include <unordered_set>
#include <utility>

namespace weft::reconcile {
namespace {

// Maps that are rebuilt get every entry again, but ids that lived in the old maps go on living:
// their counters were carried over and must not start at zero.
void keep_lives(Plan& plan, const compile::MapState& numbering) {
  std::unordered_set<std::uint32_t> endpoints, services;
  numbering.services.for_each([&](const auto& service) {
    for (const auto& port : service->ports) {
      services.insert(port.index);
      for (const auto& endpoint : port.endpoints) endpoints.insert(endpoint.id);
    }
  });
  for (auto& op : plan.ops) {
    if (auto* write = std::get_if<WriteEndpoint>(&op))
      write->fresh &= !endpoints.contains(write->id);
    if (auto* publish = std::get_if<PublishRecord>(&op))
      publish->fresh &= !services.contains(publish->index);
  }
}

void append(Cleanup& to, Cleanup&& from) {
  const auto move = [](auto& a, auto& b) { a.insert(a.end(), b.begin(), b.end()); };
  move(to.ops, from.ops);
  move(to.releases.services, from.releases.services);
  move(to.releases.endpoints, from.releases.endpoints);
  move(to.releases.labels, from.releases.labels);
  move(to.releases.ranges, from.releases.ranges);
  to.releases.frontends += from.releases.frontends;
}

}  // namespace

Reconciler::Reconciler(kernel::MapSink& sink, const compile::Limits& limits,
                       compile::MapState in_maps, compile::MapState numbering, lb::Where here,
                       bool proxy)
    : sink_(sink),
      here_(std::move(here)),
      proxy_(proxy),
      ids_(limits, numbering),
      in_maps_(std::move(in_maps)),
      placed_(std::move(numbering)) {}

Result Reconciler::apply(model::MeshPtr mesh, Caution caution) {
  if (failed_) {
    waiting_ = std::move(mesh);
    caution.touched.merge(waiting_caution_.touched);
    waiting_caution_ = std::move(caution);
    return failed_->result;
  }
  const std::uint64_t generation = placed_.generation + 1;
  compile::Input input;
  input.before = mesh_.get();
  input.after = mesh.get();
  input.placed = &placed_;
  input.pending = pending_;
  input.allow_mass_removal = caution.allow_mass_removal;
  input.keep_absent = caution.keep_absent;
  input.recent_peak = caution.recent_peak;
  input.allowance = allowance_;
  input.confirmed = caution.confirmed;
  input.here = here_;
  input.proxy = proxy_;
  input.ejected = caution.ejected;
  input.touched = std::move(caution.touched);
  auto output = compile::compile(input, ids_, generation);

  Attempt attempt;
  attempt.plan = diff(in_maps_, output.desired);
  attempt.desired = std::move(output.desired);
  if (!attempt.plan.ops.empty()) attempt.desired.generation = generation;
  for (auto& op : attempt.plan.ops) {
    if (auto* begin = std::get_if<BeginGeneration>(&op)) begin->generation = generation;
    if (auto* commit = std::get_if<CommitGeneration>(&op)) commit->generation = generation;
  }
  const bool rebuilding = in_maps_.services.size() == 0 && placed_.services.size() != 0;
  if (rebuilding) {
    keep_lives(attempt.plan, placed_);
    // What only the state left behind used needs no clearing here, but its numbers must be given
    // back.
    attempt.plan.releases = diff(placed_, attempt.desired).releases;
  }
  attempt.result.written = size_of(attempt.plan);
  attempt.result.generation = attempt.desired.generation;
  attempt.result.held_back = output.held_back;
  attempt.result.kept_api_server = output.kept_api_server;
  allowance_.reset();
  if (output.held_back) allowance_ = output.allowance;
  attempt.result.endpoints_before = output.endpoints_before;
  attempt.result.endpoints_after = output.endpoints_after;
  attempt.result.refused = std::move(output.refused);
  mesh_ = std::move(mesh);
  pending_ = std::move(output.pending);
  return run(std::move(attempt));
}

Result Reconciler::run(Attempt attempt) {
  attempt.result.status = sink_.write(attempt.plan.ops);
  if (!attempt.result.status.ok()) {
    failed_ = std::move(attempt);
    return failed_->result;
  }
  in_maps_ = attempt.desired;
  placed_ = std::move(attempt.desired);
  if (!attempt.plan.cleanup.empty() || !attempt.plan.releases.empty())
    cleanups_.push_back({std::move(attempt.plan.cleanup), std::move(attempt.plan.releases)});
  return attempt.result;
}

Result Reconciler::retry() {
  if (!failed_) return {};
  Attempt attempt = *std::exchange(failed_, std::nullopt);
  Result result = run(std::move(attempt));
  if (!result.status.ok() || !waiting_) return result;
  return apply(std::exchange(waiting_, nullptr), waiting_caution_);
}

std::optional<Cleanup> Reconciler::take_cleanup() {
  if (cleanups_.empty()) return std::nullopt;
  Cleanup all;
  for (auto& cleanup : cleanups_) append(all, std::move(cleanup));
  cleanups_.clear();
  ++unfinished_;
  return all;
}

absl::Status Reconciler::finish(const Cleanup& cleanup) {
  if (auto status = sink_.write(cleanup.ops); !status.ok()) return status;
  ids_.release(cleanup.releases);
  --unfinished_;
  return absl::OkStatus();
}

}  // namespace weft::reconcile
