// The end of a stream comes behind what was said before it.
#include <poll.h>

#include <cerrno>
#include <cstring>

#include "agent/bypass/each_check.h"

namespace weft::bypass {

void check_half_close(Trial& trial, std::uint64_t) {
  for (const bool client_first : {true, false}) {
    const auto both = trial.connect();
    const auto& first = client_first ? both.client : both.server;
    const auto& second = client_first ? both.server : both.client;
    trial.say(both.client, "hello");  // what a server says before its client did goes by TCP
    trial.expect_heard(both.server, "hello");
    const std::size_t way = client_first ? 0 : 1;
    const auto before = trial.expect_pair(both).way[way].messages;
    trial.say(first, "question");
    trial.say(first, ", all of it");
    trial.expect(trial.expect_pair(both).way[way].messages == before + 2,
                 "what goes before a FIN was not redirected");
    shutdown(first.get(), SHUT_WR);
    trial.expect_heard(second, "question, all of it");
    trial.expect_end(second);
    trial.say(second, "answer");
    shutdown(second.get(), SHUT_WR);
    trial.expect_heard(first, "answer");
    trial.expect_end(first);
  }
}

void check_close(Trial& trial, std::uint64_t) {
  auto both = trial.connect();
  trial.say(both.client, "last ");
  trial.say(both.client, "words");
  const auto pair = trial.pair_of(both);
  trial.expect(pair && pair->value.way[0].messages == 2,
               "what goes before a close was not redirected");
  both.client = base::Fd();
  trial.expect_heard(both.server, "last words");
  trial.expect_end(both.server);
  both.server = base::Fd();
  const auto is_gone = [&] {
    const auto pairs = trial.maps().pairs();
    return pairs.ok() && std::none_of(pairs->begin(), pairs->end(),
                                      [&](const auto& left) { return left.id == pair->id; });
  };
  trial.eventually(is_gone, "a pair outlives both of its ends");
}

void check_reset(Trial& trial, std::uint64_t) {
  auto both = trial.connect();
  trial.say(both.client, "x");
  const linger now{1, 0};
  setsockopt(both.client.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  both.client = base::Fd();
  trial.expect(trial.wait_for(both.server, POLLIN) & (POLLERR | POLLHUP),
               "poll() does not tell of a reset");
  char piece[16];
  ssize_t got = 0;
  while (!trial.over() && (got = recv(both.server.get(), piece, sizeof piece, 0)) > 0) continue;
  trial.expect(got < 0 && errno == ECONNRESET,
               std::string("a reset is read as ") + (got ? std::strerror(errno) : "the end"));
}

}  // namespace weft::bypass
