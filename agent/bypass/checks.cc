#include "agent/bypass/checks.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include <cerrno>
#include <cstring>
#include <random>

#include "agent/bypass/trial.h"

namespace weft::bypass {
namespace {

std::string number(std::uint64_t value) { return std::to_string(value); }

void pairing(Trial& trial, std::uint64_t) {
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

void bytes(Trial& trial, std::uint64_t) {
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
void order(Trial& trial, std::uint64_t) {
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

void half_close(Trial& trial, std::uint64_t) {
  for (const bool client_first : {true, false}) {
    const auto both = trial.connect();
    const auto& first = client_first ? both.client : both.server;
    const auto& second = client_first ? both.server : both.client;
    trial.say(first, "question");
    trial.say(first, ", all of it");
    trial.expect(trial.expect_pair(both).way[client_first ? 0 : 1].messages == 2,
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

void closing(Trial& trial, std::uint64_t) {
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

void reset(Trial& trial, std::uint64_t) {
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

// Writes what a reader that does not read lets it, up to far more than plain TCP would.
std::string fill(const base::Fd& to, std::size_t message, std::size_t most) {
  const std::string all = noise(most, message);
  std::size_t sent = 0;
  while (sent < most) {
    const auto got = send(to.get(), all.data() + sent, std::min(message, most - sent),
                          MSG_DONTWAIT | MSG_NOSIGNAL);
    if (got <= 0) break;
    sent += static_cast<std::size_t>(got);
  }
  return all.substr(0, sent);
}

void backpressure(Trial& trial, std::uint64_t credit) {
  for (const auto& [message, most] :
       {std::pair<std::size_t, std::size_t>{64 << 10, 32 << 20}, {1, 4096}}) {
    const auto both = trial.connect();
    if (trial.over()) return;
    const auto sent = fill(both.client, message, most);
    const auto way = trial.expect_pair(both).way[0];
    const auto held = way.bytes + std::uint64_t{way.messages} * WEFT_BYPASS_MESSAGE_COST;
    const auto what = "for a stalled reader " + number(way.messages) + " messages of " +
                      number(way.bytes) + " bytes were redirected";
    trial.expect(held <= credit, what + ", more than its credit");
    trial.expect(way.messages > 0 && way.tcp_bytes > 0, what + ", the rest did not take TCP");
    trial.expect(message == 1 || sent.size() < most, "a sender never waits for its reader");
    trial.expect_heard(both.server, sent);
    trial.say(both.server, "read");
    trial.expect_heard(both.client, "read");
  }
}

// Off while bytes are queued, on again before they are read: nothing is lost, nothing overtakes.
// Then off for good: both ends leave the map for the kernel's own TCP.
void drain(Trial& trial, std::uint64_t) {
  const auto both = trial.connect();
  trial.say(both.client, "one, ");
  trial.maps().set_mode(WEFT_BYPASS_OFF);
  trial.say(both.client, "two, ");
  trial.maps().set_mode(WEFT_BYPASS_ON);
  trial.say(both.client, "three");
  const auto way = trial.expect_pair(both).way[0];
  trial.expect(way.messages == 1 && way.last_path == WEFT_BYPASS_TURNED_OFF,
               "off did not stop the redirect");
  trial.expect_heard(both.server, "one, two, three");
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

int readable_now(const base::Fd& fd) {
  pollfd watched{fd.get(), POLLIN, 0};
  return poll(&watched, 1, 0);
}

int unread(const base::Fd& fd) {
  int size = -1;
  ioctl(fd.get(), FIONREAD, &size);
  return size;
}

void readiness(Trial& trial, std::uint64_t) {
  const auto both = trial.connect();
  trial.expect(readable_now(both.server) == 0, "poll() finds bytes that nobody sent");
  trial.say(both.client, "abcdef");
  trial.wait_for(both.server, POLLIN);
  trial.expect(unread(both.server) == 6,
               "FIONREAD says " + std::to_string(unread(both.server)) + " of 6 bytes");
  char text[16] = {};
  struct Read {
    std::size_t most;
    int flags;
    std::string_view wanted;
  };
  for (const auto& [most, flags, wanted] :
       {Read{16, MSG_PEEK, "abcdef"}, {3, MSG_PEEK, "abc"}, {4, 0, "abcd"}, {16, 0, "ef"}}) {
    const auto got = trial.over() ? 0 : recv(both.server.get(), text, most, flags);
    trial.expect(got > 0 && std::string_view(text, static_cast<std::size_t>(got)) == wanted,
                 std::string(flags ? "MSG_PEEK" : "recv()") + " did not give the first " +
                     number(wanted.size()) + " bytes");
  }
  trial.expect(readable_now(both.server) == 0 && unread(both.server) == 0,
               "poll() or FIONREAD finds bytes that were read");
  trial.expect(trial.expect_pair(both).way[0].messages == 1, "nothing was redirected");
}

void edges(Trial& trial, std::uint64_t) {
  const auto both = trial.connect();
  const base::Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data = {}};
  epoll_ctl(epoll.get(), EPOLL_CTL_ADD, both.server.get(), &event);
  const auto has_event = [&](int wait) { return epoll_wait(epoll.get(), &event, 1, wait) == 1; };
  const int patience = static_cast<int>(kPatience.count());
  for (const char* text : {"one", "two"}) {
    trial.say(both.client, text);
    trial.expect(!trial.over() && has_event(patience) && event.events == EPOLLIN,
                 "an edge-triggered epoll does not tell of new bytes");
    trial.expect(!has_event(0), "an edge-triggered epoll tells twice of the same bytes");
  }
  trial.expect_heard(both.server, "onetwo");
  trial.say(both.client, "three");
  trial.expect(!trial.over() && has_event(patience),
               "an edge-triggered epoll does not tell of bytes after all were read");
  trial.expect_heard(both.server, "three");
  trial.expect(trial.expect_pair(both).way[0].messages == 3, "not all was redirected");
  shutdown(both.client.get(), SHUT_WR);
  trial.expect(!trial.over() && has_event(patience) && event.events & EPOLLRDHUP,
               "an edge-triggered epoll does not tell of the end");
}

struct Named {
  const char* name;  // at most 15 letters: the thread's, too
  void (*check)(Trial& trial, std::uint64_t credit);
};
constexpr Named kChecks[] = {
    {"pairing", pairing},       {"bytes", bytes},   {"order", order},
    {"half-close", half_close}, {"close", closing}, {"reset", reset},
    {"readiness", readiness},   {"epoll", edges},   {"backpressure", backpressure},
    {"drain", drain},
};

}  // namespace

std::vector<Check> run_checks(kernel::BypassMaps& maps, std::uint64_t credit) {
  std::vector<Check> done;
  for (const auto& [name, check] : kChecks) {
    // For the parent, should this one never end.
    prctl(PR_SET_NAME, name);
    maps.set_mode(WEFT_BYPASS_ON);
    Trial trial(maps);
    check(trial, credit);
    done.push_back({name, trial.reason()});
  }
  maps.set_mode(WEFT_BYPASS_OFF);
  return done;
}

}  // namespace weft::bypass
