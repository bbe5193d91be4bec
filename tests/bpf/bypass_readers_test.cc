// What a program sees of the bypass that plain TCP does not show it, each difference a test that
// documents it: docs/bypass.md tells owners what must be true before they say "on". And what is the
// same.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <thread>

#include "tests/bpf/bypass_shared.h"
#include "tests/bpf/bypass_streams.h"

namespace weft::tests {
namespace {

class BypassReaders : public SharedBypassTest {
 protected:
  // Redirected, and queued: whoever is to read it finds it.
  void queue(const base::Fd& fd, const std::string& text) {
    const auto before = messages_now(WEFT_BYPASS_REDIRECTED);
    say(fd, text);
    EXPECT_EQ(messages_now(WEFT_BYPASS_REDIRECTED), before + 1);
  }
};

int readable_bytes(const base::Fd& fd) {
  int bytes = -1;
  ioctl(fd.get(), FIONREAD, &bytes);
  return bytes;
}

ssize_t receive(int fd) {
  char buffer[100];
  return recv(fd, buffer, sizeof buffer, 0);
}

// A reading call in a thread of its own, that is inside before the test goes on.
class Inside {
 public:
  explicit Inside(const base::Fd& fd, std::function<ssize_t(int)> call = receive)
      : thread_([this, handle = fd.get(), call = std::move(call)] {
          tid_ = gettid();
          result_ = call(handle);
          error_ = result_ < 0 ? errno : 0;
        }) {
    EXPECT_TRUE(eventually([&] { return tid_ && sleeps(tid_); }));
  }
  void interrupt() { pthread_kill(thread_.native_handle(), SIGUSR1); }
  ssize_t result() {
    if (thread_.joinable()) thread_.join();
    return result_;
  }
  int error() {
    result();
    return error_;
  }
  ~Inside() { result(); }

 private:
  std::atomic<int> tid_{0};
  ssize_t result_ = 0;
  int error_ = 0;
  std::thread thread_;
};

TEST_F(BypassReaders, SameAsTcpPeekShowsWhatIsQueuedAndLeavesIt) {
  const auto [client, server] = connect_here();
  queue(client, "look");
  EXPECT_EQ(hear(server, 2, MSG_PEEK), "lo");
  EXPECT_EQ(hear(server, 100, MSG_PEEK), "look");
  EXPECT_EQ(hear(server), "look");
}

TEST_F(BypassReaders, SameAsTcpPollSaysReadableAndThatTheEndCame) {
  auto [client, server] = connect_here();
  pollfd waited{server.get(), POLLIN | POLLRDHUP, 0};
  EXPECT_EQ(poll(&waited, 1, 0), 0);
  queue(client, "x");
  EXPECT_EQ(poll(&waited, 1, 0), 1);
  EXPECT_EQ(waited.revents, POLLIN);
  EXPECT_EQ(hear(server), "x");
  EXPECT_EQ(poll(&waited, 1, 0), 0);
  client = base::Fd();
  EXPECT_EQ(poll(&waited, 1, 60'000), 1);
  EXPECT_EQ(waited.revents, POLLIN | POLLRDHUP);
}

TEST_F(BypassReaders, SameAsTcpAWaitingReaderWakesForBytesAndForTheEnd) {
  auto [client, server] = connect_here();
  {
    Inside inside(server);
    queue(client, "wake");
    EXPECT_EQ(inside.result(), 4);
  }
  Inside inside(server);
  client = base::Fd();
  EXPECT_EQ(inside.result(), 0);
}

TEST_F(BypassReaders, SameAsTcpATimeoutIsAgain) {
  const auto [client, server] = connect_here();
  const timeval patience{0, 10'000};
  setsockopt(server.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  char byte;
  EXPECT_EQ(recv(server.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_F(BypassReaders, SameAsTcpFionreadCountsWhatIsQueued) {
  const auto [client, server] = connect_here();
  queue(client, "four");
  queue(client, "more");
  EXPECT_EQ(readable_bytes(server), 8);
}

// It waits on, is told that there is nothing, or (on other kernels) that the stream has ended.
TEST_F(BypassReaders, DifferentASplicingReaderDoesNotSeeWhatIsQueued) {
  const auto [client, server] = connect_here();
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const base::Fd out(ends[0]), in(ends[1]);
  const auto splice_in = [pipe = in.get()](int fd) {
    return splice(fd, nullptr, pipe, nullptr, 100, 0);
  };
  const timeval patience{3, 0}, little{0, 10'000};  // the first is to be seen waiting
  setsockopt(server.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  Inside inside(server, splice_in);
  queue(client, "bytes");
  EXPECT_LE(inside.result(), 0);
  setsockopt(server.get(), SOL_SOCKET, SO_RCVTIMEO, &little, sizeof little);
  EXPECT_LE(splice_in(server.get()), 0);
  EXPECT_EQ(hear(server), "bytes");
}

TEST_F(BypassReaders, DifferentWaitingForAllReturnsShort) {
  const auto [client, server] = connect_here();
  queue(client, "half");
  EXPECT_EQ(hear(server, 8, MSG_WAITALL), "half");
}

TEST_F(BypassReaders, DifferentALowWaterMarkIsIgnored) {
  const auto [client, server] = connect_here();
  const int mark = 100;
  setsockopt(server.get(), SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark);
  queue(client, "few");
  pollfd waited{server.get(), POLLIN, 0};
  EXPECT_EQ(poll(&waited, 1, 0), 1);
  EXPECT_EQ(hear(server), "few");
}

TEST_F(BypassReaders, DifferentTruncatingWithoutABufferIsRefused) {
  const auto [client, server] = connect_here();
  queue(client, "bytes");
  EXPECT_EQ(recv(server.get(), nullptr, 5, MSG_TRUNC), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(hear(server), "bytes");
}

TEST_F(BypassReaders, DifferentZerocopyNeverCompletes) {
  const auto [client, server] = connect_here();
  const int on = 1;
  ASSERT_EQ(setsockopt(client.get(), SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on), 0);
  const std::string text(60'000, 'z');
  ASSERT_EQ(send(client.get(), text.data(), text.size(), MSG_ZEROCOPY), 60'000);
  for (std::size_t heard = 0; heard < text.size();) heard += hear(server).size();
  char control[128];
  msghdr message{};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  EXPECT_EQ(recvmsg(client.get(), &message, MSG_ERRQUEUE | MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_F(BypassReaders, DifferentUrgentDataIsInLine) {
  const auto [client, server] = connect_here();
  ASSERT_EQ(send(client.get(), "ur", 2, MSG_OOB), 2);
  pollfd waited{server.get(), POLLIN | POLLPRI, 0};
  EXPECT_EQ(poll(&waited, 1, 0), 1);
  EXPECT_EQ(waited.revents, POLLIN);
  EXPECT_EQ(hear(server, 1, MSG_OOB), "u");  // and whoever asks for it reads what is next
  EXPECT_EQ(hear(server), "r");
}

TEST_F(BypassReaders, DifferentAReaderThatClosesWithUnreadBytesEndsInsteadOfResetting) {
  auto [client, server] = connect_here();
  queue(client, "unread");
  server = base::Fd();
  char byte;
  EXPECT_EQ(recv(client.get(), &byte, 1, 0), 0);
}

TEST_F(BypassReaders, DifferentAnInterruptedReaderIsToldAgain) {
  struct sigaction act {};
  act.sa_handler = [](int) {};
  sigaction(SIGUSR1, &act, nullptr);  // without SA_RESTART: EINTR
  const auto [client, server] = connect_here();
  Inside inside(server);
  inside.interrupt();
  EXPECT_EQ(inside.result(), -1);
  EXPECT_EQ(inside.error(), EAGAIN);
}

// Of two that wait for one message, as after fork(): TCP lets the second wait on.
TEST_F(BypassReaders, DifferentASecondReaderThatWaitsIsToldAgain) {
  const auto [client, server] = connect_here();
  Inside first(server), second(server);
  queue(client, "one");
  const auto a = first.result(), b = second.result();
  EXPECT_EQ(a + b, 2);
  EXPECT_EQ(a < 0 ? first.error() : second.error(), EAGAIN);
}

TEST_F(BypassReaders, DifferentAReaderThatWaitsWhenAResetComesIsToldAgainFirst) {
  auto [client, server] = connect_here();
  Inside inside(client);
  close_with_reset(server);
  EXPECT_EQ(inside.result(), -1);
  EXPECT_EQ(inside.error(), EAGAIN);
  char byte;
  EXPECT_EQ(recv(client.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

}  // namespace
}  // namespace weft::tests
