// What is sent arrives, all of it and as it was, whichever way it took.
#include <poll.h>

#include <cerrno>
#include <cstring>
#include <random>

#include "agent/bypass/each_check.h"

namespace weft::bypass {
namespace {

// Sizes of all magnitudes up to 64 KB.
std::size_t any_size(std::mt19937_64& random) {
  const std::size_t most = std::size_t{1} << random() % 17;
  return 1 + random() % most;
}

struct Stream {
  const base::Fd &from, &to;
  const std::string data;
  std::size_t sent = 0, heard = 0;

  bool done() const { return heard == data.size(); }

  void send_some(std::mt19937_64& random) {
    const auto size = std::min(any_size(random), data.size() - sent);
    const auto got = send(from.get(), data.data() + sent, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (got > 0) sent += static_cast<std::size_t>(got);
  }
  void hear_some(Trial& trial, std::mt19937_64& random) {
    char piece[1 << 16];
    const auto got = recv(to.get(), piece, any_size(random), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    const auto size = got > 0 ? static_cast<std::size_t>(got) : 0;
    if (trial.expect(size > 0 && size <= data.size() - heard &&
                         std::memcmp(piece, data.data() + heard, size) == 0,
                     "wrong bytes after " + number(heard)))
      heard += size;
  }
};

// One thread turns both directions, so that each end writes while its own queue fills.
void run_streams(Trial& trial, Stream& a, Stream& b, std::mt19937_64& random) {
  while (!trial.over() && !(a.done() && b.done())) {
    pollfd ends[2] = {{a.from.get(), POLLIN, 0}, {b.from.get(), POLLIN, 0}};
    if (a.sent < a.data.size()) ends[0].events |= POLLOUT;
    if (b.sent < b.data.size()) ends[1].events |= POLLOUT;
    trial.expect(poll(ends, 2, static_cast<int>(kPatience.count())) > 0,
                 "a stream stalled with " + number(a.heard) + " and " + number(b.heard) +
                     " bytes read of " + number(a.data.size()));
    if (ends[0].revents & POLLOUT) a.send_some(random);
    if (ends[1].revents & POLLOUT) b.send_some(random);
    if (ends[1].revents & POLLIN) a.hear_some(trial, random);
    if (ends[0].revents & POLLIN) b.hear_some(trial, random);
  }
}

}  // namespace

void check_pairing(Trial& trial, std::uint64_t) {
  for (const int family : {AF_INET, AF_INET6}) {
    if (!trial.has(family)) continue;
    const auto both = trial.connect(family);
    for (int i = 0; i < 3; ++i) {
      trial.say(both.client, "ask");
      trial.expect_heard(both.server, "ask");
      trial.say(both.server, "answer");
      trial.expect_heard(both.client, "answer");
    }
    const auto pair = trial.expect_pair(both);
    trial.expect(
        pair.way[0].bytes == 9 && pair.way[1].bytes == 18,
        "of 27 bytes " + number(pair.way[0].bytes + pair.way[1].bytes) + " were redirected");
  }
}

void check_bytes(Trial& trial, std::uint64_t) {
  std::mt19937_64 random(1);
  const auto both = trial.connect();
  for (int i = 0; i < 200 && !trial.over(); ++i) {
    const auto question = noise(any_size(random), random());
    const auto answer = noise(any_size(random), random());
    trial.say(both.client, question);
    trial.expect_heard(both.server, question);
    trial.say(both.server, answer);
    trial.expect_heard(both.client, answer);
  }
  for (int i = 0; i < 4; ++i) {
    const auto pair_up = trial.connect();
    Stream there{pair_up.client, pair_up.server, noise(1 << 20, random())};
    Stream back{pair_up.server, pair_up.client, noise(1 << 20, random())};
    run_streams(trial, there, back, random);
    const auto pair = trial.expect_pair(pair_up);
    trial.expect(pair.way[0].bytes && pair.way[1].bytes, "streams were not redirected at all");
  }
}

// The first bytes go by TCP because the other end is not known yet; what follows them may not be
// redirected past them. Later the direction does change over, and nothing is lost or doubled.
void check_order(Trial& trial, std::uint64_t) {
  for (int i = 0; i < 16 && !trial.over(); ++i) {
    const auto both = trial.connect(AF_INET, false);  // has said "A"
    trial.say(both.client, "B");
    trial.say(both.client, "C");
    trial.expect_heard(both.server, "ABC");
    trial.say(both.server, "answer");
    trial.expect_heard(both.client, "answer");
    const auto redirected = [&] { return trial.expect_pair(both).way[0].messages > 0; };
    trial.eventually(
        [&] {
          trial.say(both.client, "more");
          trial.say(both.client, ", and more");
          trial.expect_heard(both.server, "more, and more");
          trial.say(both.server, "yes");
          trial.expect_heard(both.client, "yes");
          return redirected();
        },
        "a direction that began by TCP was never redirected");
  }
}

}  // namespace weft::bypass
