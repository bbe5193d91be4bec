// One experiment on real sockets. What goes wrong first is its reason, and ends it: every later
// step does nothing, so that an experiment reads from top to bottom. No step waits for ever.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "agent/kernel/bypass.h"
#include "mesh/base/fd.h"

namespace weft::bypass {

// What takes longer than this on a loopback has gone wrong.
inline constexpr std::chrono::milliseconds kPatience{2000};

struct Connection {
  base::Fd client, server;
};

class Trial {
 public:
  explicit Trial(kernel::BypassMaps& maps) : maps_(maps) {}
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  kernel::BypassMaps& maps() { return maps_; }
  const std::string& reason() const { return reason_; }
  bool over() const { return !reason_.empty(); }
  // False, and the reason, where that is not so; false as well where the trial is over.
  bool expect(bool is_so, const std::string& otherwise);

  // Two blocking sockets over loopback whose calls give up after kPatience. Without quick
  // acknowledgements the client's third of the handshake comes with its first bytes.
  Connection connect(int family = AF_INET, bool quick = true);
  bool has(int family) const;  // the node may be without IPv6

  void say(const base::Fd& to, std::string_view text);
  void expect_heard(const base::Fd& from, std::string_view text);
  void expect_end(const base::Fd& from);  // the end of the stream
  // Until poll(2) says one of the events; what it says.
  int wait_for(const base::Fd& fd, int events);

  // As the programs have it; nothing where the two are not paired.
  std::optional<kernel::BypassPair> pair_of(const Connection& connection);
  // The same where there is one; ends the trial where not.
  weft_bypass_pair expect_pair(const Connection& connection);

  template <class Condition>
  bool eventually(Condition&& condition, const std::string& otherwise) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!over() && !condition())
      if (!rest_until(end)) return expect(false, otherwise);
    return !over();
  }

 private:
  static bool rest_until(std::chrono::steady_clock::time_point end);  // false: it has come

  kernel::BypassMaps& maps_;
  std::string reason_;
};

// A direction's bytes, the same for the same seed.
std::string noise(std::size_t size, std::uint64_t seed);

}  // namespace weft::bypass
