#include "userspace_proxy/net/loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <ctime>

namespace weft::net {
namespace {

constexpr std::uint64_t kLongestSleepMs = 1000;

epoll_event event_of(std::uint32_t events, void* pointer) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = pointer;
  return event;
}

}  // namespace

std::uint64_t Loop::clock_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1000000000u +
         static_cast<std::uint64_t>(time.tv_nsec);
}

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  now_ns_ = clock_ns();
  auto event = event_of(EPOLLIN, nullptr);
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event);
}

bool Loop::add(int fd, std::uint32_t events, Watcher& watcher) {
  auto event = event_of(events, &watcher);
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Loop::change(int fd, std::uint32_t events, Watcher& watcher) {
  auto event = event_of(events, &watcher);
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Loop::remove(int fd) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void Loop::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(wake_.get(), &one, sizeof one);
}

void Loop::run_posted() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = read(wake_.get(), &count, sizeof count);
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(posted_);
  }
  for (auto& task : tasks) task();
}

void Loop::round() {
  std::array<epoll_event, 256> events;
  const auto sleep = timers_.idle_ms(now_ms(), kLongestSleepMs);
  const int count = epoll_wait(epoll_.get(), events.data(), events.size(), static_cast<int>(sleep));
  now_ns_ = clock_ns();
  bool posted = false;
  for (int i = 0; i < count; ++i) {
    auto& event = events[static_cast<std::size_t>(i)];
    if (event.data.ptr)
      static_cast<Watcher*>(event.data.ptr)->on_ready(event.events);
    else
      posted = true;
  }
  timers_.advance(now_ms());
  if (posted) run_posted();
  buried_.clear();
}

void Loop::run() {
  while (!stopped_) round();
}

void Loop::stop() { stopped_ = true; }

}  // namespace weft::net
