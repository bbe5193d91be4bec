// One running weft-proxy, as its parent sees it. Between its start and the end of its process:
//
//   starting --Applied--> serving --drain()--> draining --> ended
//
// and from everywhere to ended, by its own doing, by kill(), or because nothing was heard of it. A
// process that an earlier weftd has left, and a third party's proxy, have no channel: they are
// asked to end by SIGTERM and show no sign of life but living.
#pragma once

#include <weft/v1/proxy.pb.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/proxy/channel.h"
#include "agent/proxy/process.h"

namespace weft::proxy {

struct Timing {
  std::chrono::milliseconds look{250};      // as often as a proxy's heart beats
  std::chrono::milliseconds stalled{1000};  // nothing heard for so long: killed
  std::chrono::milliseconds start{10000};   // ... while it has not spoken at all yet
  std::chrono::milliseconds drain{30000};   // an old one's connections end in
  // ... in, where another needs its column. What ends by itself has by then: requests that take no
  // longer, and a second after the last the connections that wait for another.
  std::chrono::milliseconds crowded{2000};
  std::chrono::milliseconds first_restart{50};   // the second try; the first is at once
  std::chrono::milliseconds last_restart{2000};  // they double up to this
  std::chrono::milliseconds settled{10000};      // lived so long: the next death is a first one
};

class Generation {
 public:
  enum class State { kStarting, kServing, kDraining };

  // On the io_context's thread. `ended` is the last that is told; it may destroy the generation.
  struct Events {
    std::function<void(Generation&)> serving;
    std::function<void(Generation&, const std::string& how)> ended;
    std::function<void(Generation&, const weft::v1::FromProxy&)> said;  // all but heartbeats
  };

  // `socket`: the channel; none of what was left or is a third party's.
  Generation(boost::asio::io_context& io, std::uint32_t number, Process process, base::Fd socket,
             const Timing& timing, Events events);
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  void send(const weft::v1::ToProxy& message, const std::vector<int>& descriptors = {});
  // It serves when it has applied this generation of the configuration.
  void serve_after(std::uint64_t config_generation) { awaited_ = config_generation; }
  void serve_now();  // of those without a channel
  // No new connections; what has not ended at the deadline is killed with it. Again: the deadline,
  // counted from the first time, may only come nearer.
  void drain(std::chrono::milliseconds deadline);
  void kill();

  std::uint32_t number() const { return number_; }
  pid_t pid() const { return process_.pid; }
  State state() const { return state_; }
  std::uint64_t connections() const { return heartbeat_.connections(); }
  std::uint64_t requests() const { return heartbeat_.requests(); }
  bool talks() const { return channel_ != nullptr; }
  std::chrono::steady_clock::time_point started() const { return started_; }

  std::uint64_t told = 0;  // up to where of the publisher's log it knows; the feeder's to keep

 private:
  void receive(std::string_view bytes);
  void apply(const weft::v1::Applied& applied);
  void look();
  void wait_for_end();

  const std::uint32_t number_;
  Process process_;
  const Timing timing_;
  Events events_;
  State state_ = State::kStarting;
  std::chrono::steady_clock::time_point drained_, deadline_;  // since when, until when
  std::optional<std::uint64_t> awaited_;
  weft::v1::Heartbeat heartbeat_;
  bool heard_ = false;         // ever
  int silent_ = 0;             // looks in a row at which nothing new was heard
  const char* why_ = nullptr;  // ... it is being killed
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  boost::asio::posix::stream_descriptor end_;
  boost::asio::steady_timer look_timer_, drain_timer_;
  std::shared_ptr<int> alive_ = std::make_shared<int>();
  std::unique_ptr<Channel> channel_;
};

}  // namespace weft::proxy
