// Who asks whether there is something to read gets the right answer.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "agent/bypass/each_check.h"

namespace weft::bypass {
namespace {

int readable_now(const base::Fd& fd) {
  pollfd watched{fd.get(), POLLIN, 0};
  return poll(&watched, 1, 0);
}

int unread(const base::Fd& fd) {
  int size = -1;
  ioctl(fd.get(), FIONREAD, &size);
  return size;
}

}  // namespace

void check_readiness(Trial& trial, std::uint64_t) {
  const auto both = trial.connect();
  trial.expect(readable_now(both.server) == 0, "poll() finds bytes that nobody sent");
  trial.say(both.client, "abcdef");
  trial.wait_for(both.server, POLLIN);
  trial.expect(unread(both.server) == 6, "FIONREAD says " + std::to_string(unread(both.server)) +
                                             " of 6 bytes that were redirected");
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

void check_epoll(Trial& trial, std::uint64_t) {
  const auto both = trial.connect();
  const base::Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data = {}};
  epoll_ctl(epoll.get(), EPOLL_CTL_ADD, both.server.get(), &event);
  const auto has_event = [&](int wait) { return epoll_wait(epoll.get(), &event, 1, wait) == 1; };
  const int patience = static_cast<int>(kPatience.count());
  for (const char* text : {"one", "two"}) {
    trial.say(both.client, text);
    trial.expect(!trial.over() && has_event(patience) && event.events & EPOLLIN,
                 "an edge-triggered epoll does not tell of new bytes");
    while (has_event(0)) continue;  // more often than needed is right, too
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

}  // namespace weft::bypass
