// Breaker transitions in people's words: what `weftctl event watch`, the log and the counters are
// made of. Belongs to the control thread; what others read of it is copied into snapshots.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace weft::observe {

struct BreakerEvent {
  std::uint64_t sequence = 0;  // grows; greater than any of an agent before this one
  std::int64_t time_ms = 0;    // wall clock, since 1970
  // Of a service that has left the mesh meanwhile: "" and "gone".
  std::string namespace_name, service;
  std::uint16_t port = 0;  // of the service
  std::string endpoint;    // "10.0.0.1:80", "[fd00::1]:80"; "gone" where it has left meanwhile
  std::uint32_t endpoint_id = 0;
  const char* from = "";  // "closed", "open", "half_open"
  const char* to = "";
  const char* reason = "";
  std::uint32_t ejections = 0;
  std::int64_t for_ms = 0;  // open: until a probe is let through; half-open: the probe's lease

  std::string service_text() const {
    return namespace_name.empty() ? service : namespace_name + "/" + service;
  }
};

struct TransitionKey {
  std::string namespace_name, service;
  std::uint16_t port = 0;
  const char* to = "";
  const char* reason = "";

  bool operator<(const TransitionKey& other) const {
    return std::tuple(std::string_view(namespace_name), std::string_view(service), port,
                      std::string_view(to), std::string_view(reason)) <
           std::tuple(std::string_view(other.namespace_name), std::string_view(other.service),
                      other.port, std::string_view(other.to), std::string_view(other.reason));
  }
};
using TransitionCounts = std::map<TransitionKey, std::uint64_t>;

class BreakerLog {
 public:
  static constexpr std::size_t kKept = 1000;

  BreakerLog() = default;
  // Of an agent that started then: its numbers go on where those of the one before it cannot be, so
  // who asks for what came after a number of that one is given all of this one. It would take 1,024
  // transitions a millisecond to catch up; the numbers are exact in JSON's doubles for 278 years.
  explicit BreakerLog(std::uint64_t monotonic_ms) : last_(monotonic_ms << 10) {}

  void add(BreakerEvent event) {
    event.sequence = ++last_;
    ++counts_[{event.namespace_name, event.service, event.port, event.to, event.reason}];
    events_.push_back(std::move(event));
    if (events_.size() > kKept) events_.pop_front();
  }
  // Those after `sequence`, oldest first, as many as are still kept.
  std::vector<BreakerEvent> after(std::uint64_t sequence) const {
    std::vector<BreakerEvent> found;
    for (const auto& event : events_)
      if (event.sequence > sequence) found.push_back(event);
    return found;
  }
  std::uint64_t last() const { return last_; }
  std::shared_ptr<const TransitionCounts> counts() const {  // a copy
    return std::make_shared<const TransitionCounts>(counts_);
  }

 private:
  std::deque<BreakerEvent> events_;
  std::uint64_t last_ = 0;
  TransitionCounts counts_;
};

}  // namespace weft::observe
