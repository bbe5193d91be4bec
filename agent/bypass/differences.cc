// Each call is tried twice, on a pair that is redirected and on plain TCP, and told where they
// differ.
#include <fcntl.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "agent/bypass/checks.h"
#include "agent/bypass/trial.h"

namespace weft::bypass {
namespace {

std::string outcome(ssize_t got) {
  return got > 0 ? std::to_string(got) + " bytes" : got == 0 ? "end of file" : std::strerror(errno);
}

void set_receive_timeout(const base::Fd& fd, std::chrono::microseconds limit) {
  const timeval time{.tv_sec = 0, .tv_usec = static_cast<suseconds_t>(limit.count())};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
}

// It waits for bytes that lie there, and sees the end of the stream before them.
std::string splice_reader(Trial& trial, Connection& both) {
  trial.say(both.client, "abcdef");
  trial.wait_for(both.server, POLLIN);
  int ends[2];
  if (!trial.expect(pipe2(ends, O_CLOEXEC) == 0, "no pipe")) return "";
  const base::Fd out(ends[0]), in(ends[1]);
  set_receive_timeout(both.server, std::chrono::milliseconds(5));
  const auto splice_once = [&] {
    return outcome(splice(both.server.get(), nullptr, in.get(), nullptr, 6, 0));
  };
  const auto first = splice_once();
  if (first == "6 bytes") return first;
  shutdown(both.client.get(), SHUT_WR);
  trial.wait_for(both.server, POLLRDHUP);
  return first + ", then " + splice_once();
}

// A message without credit takes TCP, to a socket that is in the map.
std::string count_by_tcp(Trial& trial, Connection& both) {
  trial.maps().set_limits(0, kernel::kBypassNodeLimit);
  trial.say(both.client, "abcdef");
  trial.maps().set_limits(kernel::kBypassCredit, kernel::kBypassNodeLimit);
  trial.wait_for(both.server, POLLIN);
  int size = -1;
  ioctl(both.server.get(), FIONREAD, &size);
  return std::to_string(size) + " bytes";
}

// Whether it slept is seen without a clock.
std::string wait_all(Trial& trial, Connection& both) {
  trial.say(both.client, "abc");
  trial.wait_for(both.server, POLLIN);
  set_receive_timeout(both.server, std::chrono::milliseconds(20));
  rusage before{}, after{};
  char text[6];
  getrusage(RUSAGE_THREAD, &before);
  const auto got = recv(both.server.get(), text, sizeof text, MSG_WAITALL);
  getrusage(RUSAGE_THREAD, &after);
  trial.expect(got == 3, "recv() gave " + outcome(got));
  return after.ru_nvcsw > before.ru_nvcsw ? "waits for the rest" : "returns what is there";
}

std::string low_water(Trial& trial, Connection& both) {
  const int mark = 100;
  setsockopt(both.server.get(), SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark);
  trial.say(both.client, "abc");
  pollfd watched{both.server.get(), POLLIN, 0};
  return poll(&watched, 1, 0) ? "readable below the mark" : "not readable below the mark";
}

std::string throw_away(Trial& trial, Connection& both) {
  trial.say(both.client, "abcdef");
  trial.wait_for(both.server, POLLIN);
  return outcome(recv(both.server.get(), nullptr, 6, MSG_TRUNC));
}

std::string urgent(Trial& trial, Connection& both) {
  trial.expect(send(both.client.get(), "ab", 2, MSG_OOB) == 2, "it could not be sent");
  trial.wait_for(both.server, POLLIN);
  char text[6];
  return recv(both.server.get(), text, sizeof text, 0) == 2 ? "read in line" : "out of line";
}

std::string close_unread(Trial& trial, Connection& both) {
  trial.say(both.client, "abc");
  trial.wait_for(both.server, POLLIN);
  both.server = base::Fd();
  char text[6];
  return "the sender reads " + outcome(recv(both.client.get(), text, sizeof text, 0));
}

// Signals until it returns: the first may come before it sleeps.
std::string interrupted(Trial& trial, Connection& both) {
  trial.say(both.client, "abc");
  trial.expect_heard(both.server, "abc");
  if (trial.over()) return "";
  set_receive_timeout(both.server, std::chrono::microseconds(0));  // none
  struct sigaction nothing {
  }, old{};
  nothing.sa_handler = [](int) {};
  sigaction(SIGALRM, &nothing, &old);
  const itimerval often{.it_interval = {0, 2000}, .it_value = {0, 2000}}, never{};
  setitimer(ITIMER_REAL, &often, nullptr);
  char text[6];
  const auto got = recv(both.server.get(), text, sizeof text, 0);
  const int error = errno;
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &old, nullptr);
  return got >= 0          ? outcome(got)
         : error == EINTR  ? "EINTR"
         : error == EAGAIN ? "EAGAIN"
                           : std::strerror(error);
}

// Plain TCP is waited for; the other has had time enough when it is not there soon.
std::string zero_copy(Trial& trial, Connection& both) {
  const int on = 1;
  setsockopt(both.client.get(), SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on);
  const std::string data(4096, 'x');
  const auto sent = send(both.client.get(), data.data(), data.size(), MSG_ZEROCOPY);
  if (sent < 0) return std::strerror(errno);
  trial.expect_heard(both.server, std::string_view(data).substr(0, static_cast<std::size_t>(sent)));
  if (trial.over()) return "";
  const bool plain = !trial.pair_of(both);
  pollfd watched{both.client.get(), 0, 0};
  return poll(&watched, 1, plain ? static_cast<int>(kPatience.count()) : 50) == 1
             ? "completes"
             : "is never said to be complete";
}

struct Experiment {
  const char* name;
  std::string (*run)(Trial& trial, Connection& both);
};
constexpr Experiment kExperiments[] = {
    {"FIONREAD of what came by TCP", count_by_tcp},
    {"splice(2) as reader", splice_reader},
    {"MSG_WAITALL", wait_all},
    {"SO_RCVLOWAT", low_water},
    {"MSG_TRUNC without a buffer", throw_away},
    {"urgent data", urgent},
    {"close() with unread data", close_unread},
    {"a recv() that a signal interrupts", interrupted},
    {"MSG_ZEROCOPY", zero_copy},
};

std::string observe(kernel::BypassMaps& maps, const Experiment& experiment, weft_bypass_mode mode) {
  maps.set_mode(mode);
  Trial trial(maps);
  auto both = trial.connect();
  if (mode == WEFT_BYPASS_ON) trial.expect_pair(both);
  std::string seen = trial.over() ? "" : experiment.run(trial, both);
  return trial.over() ? "not observed, " + trial.reason() : seen;
}

}  // namespace

std::vector<std::string> find_differences(kernel::BypassMaps& maps) {
  std::vector<std::string> found;
  prctl(PR_SET_NAME, "differences");
  for (const auto& experiment : kExperiments) {
    const auto bypassed = observe(maps, experiment, WEFT_BYPASS_ON);
    const auto plain = observe(maps, experiment, WEFT_BYPASS_OFF);
    if (bypassed != plain)
      found.push_back(std::string(experiment.name) + ": " + bypassed + "; plain TCP: " + plain);
  }
  return found;
}

}  // namespace weft::bypass
