// A reader that does not read holds no more than its credit, and off is off.
#include "agent/bypass/each_check.h"

namespace weft::bypass {
namespace {

// Somebody who writes to a reader that does not read.
struct Stall {
  std::size_t message, most;  // far more than plain TCP would take
  bool talks;                 // the reader writes all the while: of itself that proves nothing
};

struct Filled {
  std::string there, back;
};

Filled fill(const Connection& both, const Stall& stall) {
  const std::string all = noise(stall.most, stall.message);
  const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  Filled sent;
  std::size_t at = 0;
  while (at < all.size()) {
    if (stall.talks && send(both.server.get(), "x", 1, flags) == 1) sent.back += 'x';
    const auto got =
        send(both.client.get(), all.data() + at, std::min(stall.message, all.size() - at), flags);
    if (got <= 0) break;
    at += static_cast<std::size_t>(got);
  }
  sent.there = all.substr(0, at);
  return sent;
}

// Nodes may let TCP's own buffers grow beyond all that is sent here.
void bound_buffers(const base::Fd& fd) {
  const int size = 256 << 10;
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

void stall_once(Trial& trial, std::uint64_t credit, const Stall& stall) {
  const auto both = trial.connect();
  if (trial.over()) return;
  bound_buffers(both.client);
  bound_buffers(both.server);
  const auto sent = fill(both, stall);
  const auto way = trial.expect_pair(both).way[0];
  const auto held = way.bytes + std::uint64_t{way.messages} * WEFT_BYPASS_MESSAGE_COST;
  const auto what = std::string("for a stalled reader") + (stall.talks ? " that writes " : " ") +
                    number(way.messages) + " messages of " + number(way.bytes) +
                    " bytes were redirected";
  trial.expect(held <= credit, what + ", more than its credit");
  trial.expect(way.messages > 0 && way.tcp_bytes > 0, what + ", the rest did not take TCP");
  trial.expect(stall.message == 1 || sent.there.size() < stall.most,
               "a sender never waits for its reader");
  trial.expect_heard(both.server, sent.there);
  trial.expect_heard(both.client, sent.back);
  trial.say(both.server, "read");
  trial.expect_heard(both.client, "read");
}

}  // namespace

void check_backpressure(Trial& trial, std::uint64_t credit) {
  stall_once(trial, credit, {64 << 10, 16 << 20, false});
  stall_once(trial, credit, {64 << 10, 16 << 20, true});
  stall_once(trial, credit, {1, 4096, false});
}

// Off while bytes are queued, on again before they are read: nothing is lost, nothing overtakes.
// Then off for good: both ends leave the map for the kernel's own TCP.
void check_drain(Trial& trial, std::uint64_t) {
  const auto both = trial.connect();
  trial.say(both.client, "one, ");
  trial.maps().set_mode(WEFT_BYPASS_OFF);
  // What the server sends is acknowledged with "two": it could leave, were nothing queued for it.
  trial.say(both.server, "zero");
  trial.expect_heard(both.client, "zero");
  trial.say(both.client, "two, ");
  trial.maps().set_mode(WEFT_BYPASS_ON);
  trial.say(both.client, "three");
  trial.expect_heard(both.server, "one, two, three");
  trial.expect(trial.expect_pair(both).way[0].messages == 1, "off did not stop the redirect");
  trial.maps().set_mode(WEFT_BYPASS_OFF);
  const auto pair = trial.pair_of(both);
  const auto have_left = [&] {
    trial.say(both.client, "still");
    trial.expect_heard(both.server, "still");
    trial.say(both.server, "here");
    trial.expect_heard(both.client, "here");
    return trial.maps().look(pair->id, 0) == WEFT_BYPASS_LOOK_GONE &&
           trial.maps().look(pair->id, 1) == WEFT_BYPASS_LOOK_GONE;
  };
  trial.eventually(have_left, "off does not give the sockets back to plain TCP");
  trial.expect(trial.expect_pair(both).way[0].messages == 1, "off did not stop the redirect");
}

}  // namespace weft::bypass
