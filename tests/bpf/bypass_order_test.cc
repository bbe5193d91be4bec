// Orders of events that traffic meets once in a million messages, made to happen.
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "tests/bpf/bypass_shared.h"
#include "tests/bpf/bypass_streams.h"

namespace weft::tests {
namespace {

class BypassOrder : public SharedBypassTest {};

int unacknowledged(const base::Fd& fd) {
  int bytes = -1;
  ioctl(fd.get(), SIOCOUTQ, &bytes);
  return bytes;
}

void set_buffer(const base::Fd& fd, int option, int bytes) {
  ASSERT_EQ(setsockopt(fd.get(), SOL_SOCKET, option, &bytes, sizeof bytes), 0);
}

void stay_on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
}

// While it lives, no ordinary thread runs on that CPU.
class BusyCpu {
 public:
  explicit BusyCpu(int cpu)
      : thread_([this, cpu] {
          stay_on(cpu);
          const sched_param urgent{.sched_priority = 1};
          failed_ = sched_setscheduler(0, SCHED_FIFO, &urgent) != 0;
          for (running_ = true; !stop_;) continue;
        }) {
    EXPECT_TRUE(eventually([&] { return running_.load(); }));
    EXPECT_FALSE(failed_) << "needs the right to run a thread by SCHED_FIFO";
  }
  ~BusyCpu() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> running_{false}, stop_{false}, failed_{false};
  std::thread thread_;
};

// sendmsg() by TCP that waits for room does not hold its socket: others send meanwhile, and what
// they send may be redirected. What waited goes on by TCP, unseen by the program; the next message
// of the same thread must not be redirected past it.
TEST_F(BypassOrder, WhatWaitedForRoomByTcpIsNotOvertakenByItsWritersNext) {
  const int far = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)) - 1;
  ASSERT_GT(far, 0) << "needs two CPUs";
  stay_on(0);  // not where BusyCpu lets nobody run
  maps_->set_limits(16384, kernel::kBypassNodeLimit);
  const auto listener = listen_here();
  set_buffer(listener, SO_RCVBUF, 4096);
  const auto [client, server] = connect_to(listener);
  set_buffer(client, SO_SNDBUF, 16384);
  Heard heard;
  const auto take = [&, fd = server.get()](std::size_t most) {
    std::string text(most, '\0');
    const auto got = recv(fd, text.data(), most, MSG_DONTWAIT);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    EXPECT_EQ(check_bytes(text.data(), text.size(), heard), "");
    return got > 0;
  };

  constexpr std::size_t kLarge = 200'000;
  std::atomic<int> tid{0};
  std::atomic<bool> large_sent{false}, go{false};
  std::thread writer([&, fd = client.get()] {
    stay_on(far);
    tid = static_cast<int>(syscall(SYS_gettid));
    const auto large = make_bytes(0, 0, kLarge);
    EXPECT_EQ(send(fd, large.data(), large.size(), MSG_NOSIGNAL), ssize_t{kLarge});
    large_sent = true;
    while (!go) sched_yield();
    const auto next = make_bytes(0, kLarge, 10);
    EXPECT_EQ(send(fd, next.data(), next.size(), MSG_NOSIGNAL), 10);
  });
  pollfd room{client.get(), POLLOUT, 0};
  EXPECT_TRUE(eventually([&] { return tid && sleeps(tid) && poll(&room, 1, 0) == 0; }));
  {
    const BusyCpu busy(far);
    // All that it sent is read, acknowledged and proven, and it does not know yet.
    EXPECT_TRUE(eventually([&] { return !take(4096) && unacknowledged(client) == 0; }));
    say(client, make_bytes(1, 0, 1));
    EXPECT_TRUE(eventually([&] { return !take(4096) && unacknowledged(client) == 0; }));
    EXPECT_EQ(heard.from[1], 1u);
    say(server, "proof");
    EXPECT_EQ(hear(client), "proof");
    say(client, make_bytes(1, 1, 1));
    EXPECT_EQ(only_pair().value.way[0].messages, 0u);  // somebody waits
  }
  while (!large_sent) take(512);
  EXPECT_TRUE(eventually([&] { return large_sent.load(); }));
  go = true;
  writer.join();
  EXPECT_TRUE(eventually([&] { return !take(4096) && heard.from[0] == kLarge + 10; }));
  EXPECT_EQ(heard.from[1], 2u);
}

}  // namespace
}  // namespace weft::tests
