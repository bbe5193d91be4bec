#include "agent/proxy/namespaces.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>

namespace weft::proxy {
namespace {

// A burst of events is one look.
constexpr std::chrono::milliseconds kGather{2};

}  // namespace

struct Namespaces::Shared {
  base::Fd wake{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  std::mutex mutex;
  std::vector<std::string> cgroups;
  bool asked = false;    // once there is a set, if only an empty one
  bool changed = false;  // `cgroups`, since the last look
  bool stop = false;
};

Namespaces::Namespaces(boost::asio::io_context& io, std::string excluded, Events events,
                       std::chrono::milliseconds linger)
    : io_(io),
      excluded_(std::move(excluded)),
      events_(std::move(events)),
      linger_(linger),
      shared_(std::make_shared<Shared>()) {
  thread_ = std::thread([this] { run(); });
}

Namespaces::~Namespaces() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
  }
  eventfd_write(shared_->wake.get(), 1);
  thread_.join();
}

void Namespaces::set_cgroups(std::vector<std::string> cgroups) {
  {
    const std::lock_guard lock(shared_->mutex);
    if (std::exchange(shared_->asked, true) && shared_->cgroups == cgroups) return;
    shared_->cgroups = std::move(cgroups);
    shared_->changed = true;
  }
  eventfd_write(shared_->wake.get(), 1);
}

void Namespaces::run() {
  Finder finder(excluded_);
  std::vector<std::uint64_t> before;
  auto delay = kSoon;
  auto thorough = Clock::time_point{};
  for (;;) {
    std::vector<std::string> cgroups;
    bool first;
    {
      const std::lock_guard lock(shared_->mutex);
      if (shared_->stop) return;
      cgroups = shared_->cgroups;
      first = std::exchange(shared_->changed, false);
    }
    const auto now = Clock::now();
    const bool all = now - thorough >= kLate;
    if (all) thorough = now;
    auto found = finder.look(cgroups, all);
    std::vector<std::uint64_t> cookies;
    for (const auto& [cookie, one] : found) cookies.push_back(cookie);
    delay = cookies == before ? std::min(delay * 2, kLate) : kSoon;
    before = std::move(cookies);
    boost::asio::post(io_, [this, alive = std::weak_ptr(alive_), found = std::move(found), first] {
      if (!alive.expired()) take(found, first);
    });
    pollfd waits[] = {{shared_->wake.get(), POLLIN, 0}, {finder.told(), POLLIN, 0}};
    poll(waits, 2, static_cast<int>(delay.count()));
    if (waits[1].revents) {
      delay = kSoon;
      std::this_thread::sleep_for(kGather);
    }
    eventfd_t ignored;
    eventfd_read(shared_->wake.get(), &ignored);
  }
}

void Namespaces::take(const Found& found, bool first) {
  const auto now = Clock::now();
  const std::weak_ptr<int> alive = alive_;
  for (const auto& [cookie, one] : found) {
    const bool known = seen_.contains(cookie);
    seen_[cookie] = now;
    if (!known) events_.appeared(one);
    if (alive.expired()) return;
  }
  let_go();
  if (first && events_.looked) events_.looked();
}

void Namespaces::let_go() {
  const auto late = Clock::now() - linger_;
  std::vector<std::uint64_t> gone;
  for (const auto& [cookie, when] : seen_)
    if (when < late) gone.push_back(cookie);
  for (const auto cookie : gone) {
    seen_.erase(cookie);
    events_.gone(cookie);
  }
}

}  // namespace weft::proxy
