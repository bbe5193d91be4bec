// What checks in a row say of an endpoint. Pure: no clock, no network.
//
// One lost packet must not take an endpoint away, nor one lucky answer bring it back: only so many
// results of a kind in a row change the verdict.
#pragma once

#include <cstdint>
#include <string>

namespace weft::health {

// What one check found.
struct Result {
  bool ok = false;
  std::string reason;  // for people: "connection refused", "HTTP 503", "gRPC SERVING"
  // False: this node could not ask (no descriptor, no port left, no route, forbidden by a rule of
  // its own, thread held up). That says nothing of the endpoint; taken for a failure it would empty
  // every service at once.
  bool asked = true;

  bool operator==(const Result&) const = default;
};

struct Thresholds {
  std::uint32_t unhealthy_after = 3;  // failures in a row; 0 is taken for 1, here and below
  std::uint32_t healthy_after = 1;    // successes in a row

  bool operator==(const Thresholds&) const = default;
};

enum class State : std::uint8_t { kUnknown, kHealthy, kUnhealthy };
const char* to_text(State state);  // "unknown", "healthy", "unhealthy"

// Unknown counts as healthy: switching checks on, or starting an agent, must not cut off a service
// that works. An endpoint that never worked goes after unhealthy_after checks like any other.
struct Verdict {
  State state = State::kUnknown;
  bool last_ok = false;
  std::uint32_t in_a_row = 0;  // results like the last one

  bool healthy() const { return state != State::kUnhealthy; }
  // True: healthy() is not what it was.
  bool record(const Result& result, const Thresholds& thresholds);
  // What is asked is another thing now: the verdict stands until that is answered, but answers to
  // different questions are not added up.
  void forget_row() { in_a_row = 0; }

  bool operator==(const Verdict&) const = default;
};

}  // namespace weft::health
