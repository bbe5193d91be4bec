#include "agent/app/rounds.h"

#include <boost/asio/post.hpp>
#include <chrono>
#include <memory>
#include <utility>

#include "agent/app/looks.h"
#include "agent/kernel/affinity.h"
#include "agent/kernel/breaker.h"
#include "agent/kernel/capture.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

using namespace std::chrono_literals;

constexpr auto kExpiryPeriod = 10s;
constexpr auto kNeighbourPeriod = 60s;

}  // namespace

Rounds::Rounds(boost::asio::io_context& control, const Options& options, kernel::Maps& maps,
               kernel::Background& background, Found found)
    : control_(control),
      options_(options),
      maps_(maps),
      background_(background),
      found_(std::move(found)) {}

void Rounds::expire() {
  expiry_timer_.expires_after(kExpiryPeriod);
  expiry_timer_.async_wait([this](auto error) {
    if (error) return;
    background_.post([this] {
      if (auto removed = kernel::expire_affinities(maps_); !removed.ok())
        log::warning("affinity", {{"error", base::message_of(removed.status())}});
      if (auto removed = kernel::sweep_originals(maps_); !removed.ok())
        log::warning("capture", {{"error", base::message_of(removed.status())}});
    });
    expire();
  });
}

void Rounds::look_for_neighbours() {
  background_.post([this] {
    // Programs that were under way when an endpoint left may have counted for it.
    kernel::recount_ejected(maps_);
    auto found = std::make_shared<std::vector<node::Neighbour>>(
        neighbours_of({options_.bpffs}, options_.cgroup));
    boost::asio::post(control_, [this, found] { tell(std::move(*found)); });
  });
  neighbour_timer_.expires_after(kNeighbourPeriod);
  neighbour_timer_.async_wait([this](auto error) {
    if (!error) look_for_neighbours();
  });
}

void Rounds::tell(std::vector<node::Neighbour> found) {
  for (const auto& [name, what] : found)
    if (logged_.insert(name + what).second)
      log::info("neighbour", {{"name", name}, {"what", what}});
  found_(std::move(found));
}

}  // namespace weft::app
