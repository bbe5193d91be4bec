#include "agent/app/drains.h"

#include <arpa/inet.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <span>
#include <utility>

#include "agent/kernel/close.h"
#include "agent/kernel/writer.h"
#include "agent/proxy/finder.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

using namespace std::chrono_literals;

constexpr int kTries = 5;
constexpr auto kRetry = 1s;

bool is_able(const kernel::Datapath& datapath) {
  return std::any_of(datapath.features().begin(), datapath.features().end(),
                     [](const auto& f) { return f.name == "sock_destroy" && f.enabled; });
}

// The proxy's own connections go by address. Of an endpoint that is gone the address may be
// somebody else's by now.
std::vector<weft_frontend_key> addresses_of(std::span<const drain::Doomed> doomed) {
  std::vector<weft_frontend_key> keys;
  for (const auto& d : doomed)
    if (!d.gone && d.protocol == model::Protocol::kTcp)
      keys.push_back({compile::to_abi(d.address), htons(d.port), IPPROTO_TCP, 0});
  return keys;
}

absl::StatusOr<kernel::Closed> close_these(const Options& options,
                                           std::span<const drain::Doomed> doomed,
                                           std::span<const int> namespaces) {
  std::vector<kernel::ClosingTarget> targets;
  for (const auto& d : doomed) targets.push_back({d.id, d.incarnation});
  return kernel::close_connections({options.bpffs}, targets, addresses_of(doomed), namespaces);
}

}  // namespace

struct Drains::Sweep {
  absl::Status status;
  std::vector<std::uint32_t> closed;  // of each endpoint of the batch
  std::uint32_t own = 0;
};

Drains::Drains(boost::asio::io_context& io, const Options& options, kernel::Datapath& datapath,
               const compile::MapState& inherited)
    : io_(io),
      options_(options),
      able_(is_able(datapath)),
      deadlines_(
          [&datapath](std::uint32_t id) {
            return datapath.maps().endpoint_states.at(id).incarnation;
          },
          inherited),
      timer_(io) {}

void Drains::set_mesh(const model::Mesh& mesh, const compile::MapState& placed) {
  if (!able_) return;
  deadlines_.update(mesh, placed, drain::Clock::now());
  arm();
}

void Drains::arm() {
  if (sweeping_) return;
  const auto next = deadlines_.next();
  if (!next) {
    timer_.cancel();
    return;
  }
  timer_.expires_at(*next);
  timer_.async_wait([this](auto error) {
    if (!error && !sweeping_) begin();
  });
}

void Drains::begin() {
  auto batch =
      std::make_shared<std::vector<drain::Doomed>>(deadlines_.take_due(drain::Clock::now()));
  if (batch->empty()) return arm();
  sweeping_ = true;
  tries_ = 0;
  sweep(std::move(batch));
}

void Drains::sweep(const Batch& batch) {
  ++tries_;
  if (!sweeper_) sweeper_ = std::make_unique<kernel::Background>();
  sweeper_->post([this, batch] {
    kernel::wait_for_grace_period();  // a connect() that chose before the plan is to be seen
    const auto found = proxy::Finder("").look({options_.cgroup}, /*thorough=*/true);
    std::vector<int> namespaces;
    for (const auto& [cookie, netns] : found) namespaces.push_back(netns.file->get());
    auto sweep = std::make_shared<Sweep>();
    for (std::size_t begin = 0; begin < batch->size(); begin += WEFT_MAX_CLOSING) {
      const auto part = std::span(*batch).subspan(
          begin, std::min<std::size_t>(WEFT_MAX_CLOSING, batch->size() - begin));
      const auto closed = close_these(options_, part, namespaces);
      sweep->status.Update(closed.status());
      if (!closed.ok()) break;
      sweep->closed.insert(sweep->closed.end(), closed->sockets.begin(), closed->sockets.end());
      sweep->own += closed->own;
    }
    boost::asio::post(io_, [this, batch, sweep] { take(batch, *sweep); });
  });
}

void Drains::take(const Batch& batch, const Sweep& sweep) {
  for (std::size_t i = 0; i < sweep.closed.size(); ++i) {
    const auto& doomed = (*batch)[i];
    (doomed.gone ? counts_.gone : counts_.terminating) += sweep.closed[i];
    if (sweep.closed[i])
      log::info("drain", {{"service", doomed.service.to_text()},
                          {"endpoint", doomed.address.to_text()},
                          {"port", doomed.port},
                          {"protocol", model::to_text(doomed.protocol)},
                          {"endpoint_is", doomed.gone ? "gone" : "terminating"},
                          {"closed", sweep.closed[i]}});
  }
  counts_.proxy += sweep.own;
  if (sweep.own) log::info("drain", {{"closed_of_the_proxy", sweep.own}});
  if (!sweep.status.ok()) {
    log::warning("drain", {{"error", base::message_of(sweep.status)}, {"try", tries_}});
    if (tries_ < kTries) {
      timer_.expires_after(kRetry);
      return timer_.async_wait([this, batch](auto error) {
        if (!error) this->sweep(batch);
      });
    }
  }
  sweeping_ = false;
  arm();
}

}  // namespace weft::app
