// The network namespaces whose connections may be captured, followed as they come and go. Looks on
// a thread of its own: thousands of processes take milliseconds, and the control thread has none.
//
// A new cgroup, or the first process in one, is told by the kernel and looked at at once. A process
// that enters a namespace elsewhere is found by looking: 100 ms apart while anything changes, up to
// 1 s apart while nothing does. That is the window in which its connections are not captured.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/proxy/finder.h"

namespace weft::proxy {

class Namespaces {
 public:
  // On the io_context's thread.
  struct Events {
    std::function<void(const Namespace&)> appeared;
    std::function<void(std::uint64_t cookie)> gone;  // nobody was in it for kLinger
    std::function<void()> looked;                    // after the first look at each set of cgroups
  };
  static constexpr std::chrono::milliseconds kSoon{100}, kLate{1000}, kLinger{5000};

  // `io` outlives this. `excluded`: see Finder.
  Namespaces(boost::asio::io_context& io, std::string excluded, Events events,
             std::chrono::milliseconds linger = kLinger);
  ~Namespaces();
  Namespaces(const Namespaces&) = delete;
  Namespaces& operator=(const Namespaces&) = delete;

  // Whose processes count. What is only in others goes, after a while.
  void set_cgroups(std::vector<std::string> cgroups);

 private:
  using Clock = std::chrono::steady_clock;
  using Found = std::map<std::uint64_t, Namespace>;
  struct Shared;  // what both threads see

  void run();  // the thread
  void take(const Found& found, bool first);
  void let_go();

  boost::asio::io_context& io_;
  const std::string excluded_;
  Events events_;
  const std::chrono::milliseconds linger_;
  std::map<std::uint64_t, Clock::time_point> seen_;  // told of; when there was last somebody in it
  std::shared_ptr<Shared> shared_;
  std::shared_ptr<int> alive_ = std::make_shared<int>();
  std::thread thread_;
};

}  // namespace weft::proxy
