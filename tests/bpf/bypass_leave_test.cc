// Leaving the map (weft_may_leave), attacked: what is queued in a socket that leaves is lost, and
// so is what is on its way there.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>
#include <random>
#include <thread>

#include "tests/bpf/bypass_shared.h"
#include "tests/bpf/bypass_streams.h"

namespace weft::tests {
namespace {

class BypassLeave : public SharedBypassTest {};

// A page that is not there until it is provided: a system call that reads it stays where it is.
class MissingPage {
 public:
  MissingPage() : fault_(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK))) {
    uffdio_api api{.api = UFFD_API};
    EXPECT_TRUE(fault_ && ioctl(fault_.get(), UFFDIO_API, &api) == 0) << "needs userfaultfd";
    // One before it that is there.
    start_ = static_cast<char*>(
        mmap(nullptr, 2 * kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::memset(start_, 1, kSize);
    uffdio_register range{};
    range.range = {reinterpret_cast<std::uintptr_t>(start_ + kSize), kSize};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    EXPECT_EQ(ioctl(fault_.get(), UFFDIO_REGISTER, &range), 0);
  }
  ~MissingPage() { munmap(start_, 2 * kSize); }
  MissingPage(const MissingPage&) = delete;
  MissingPage& operator=(const MissingPage&) = delete;

  char* at(int offset) const { return start_ + kSize + offset; }
  bool somebody_waits() const {
    uffd_msg message{};
    return read(fault_.get(), &message, sizeof message) == sizeof message;
  }
  void provide(char byte) const {
    const std::string page(kSize, byte);
    uffdio_copy copy{};
    copy.dst = reinterpret_cast<std::uintptr_t>(at(0));
    copy.src = reinterpret_cast<std::uintptr_t>(page.data());
    copy.len = kSize;
    EXPECT_EQ(ioctl(fault_.get(), UFFDIO_COPY, &copy), 0);
  }

 private:
  static constexpr std::size_t kSize = 4096;
  base::Fd fault_;
  char* start_ = nullptr;
};

// By TCP: until a thousand packets may be on their way at once.
void grow_window(const base::Fd& client, const base::Fd& server, const std::string& piece) {
  const int room = 4 << 20;
  setsockopt(client.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  for (std::size_t burst = 10; burst <= 640; burst *= 2) {
    say(client, "ask");
    EXPECT_EQ(hear(server), "ask");
    for (std::size_t i = 0; i < burst; ++i) say(server, piece);
    for (std::size_t heard = 0; heard < burst * piece.size();) heard += hear(client).size();
  }
  say(client, "ask");  // so that what follows is no stream yet
  EXPECT_EQ(hear(server), "ask");
}

// A recv() in the map may answer EAGAIN for nothing: see bypass_readers_test.
std::string take(const base::Fd& fd, std::size_t size) {
  std::string all;
  while (all.size() < size) {
    const auto more = hear(fd, size - all.size());
    if (more.empty() && errno != EAGAIN) return all + " and an end";
    all += more;
  }
  return all;
}

// Questions and answers of many sizes.
std::string converse(const Connection& connection, unsigned seed) {
  std::mt19937 random(seed);
  for (int i = 0; i < 10; ++i) {
    const auto ask = make_bytes(0, random(), 1 + random() % 3000);
    const auto answer = make_bytes(1, random(), 1 + random() % 3000);
    say(connection.client, ask);
    if (take(connection.server, ask.size()) != ask) return "a question is not what was asked";
    say(connection.server, answer);
    if (take(connection.client, answer.size()) != answer) return "an answer is not what was said";
  }
  return "";
}

std::string stream_one_way(const Connection& connection, unsigned round, unsigned seed) {
  const auto& from = round % 2 ? connection.server : connection.client;
  const auto& to = round % 2 ? connection.client : connection.server;
  Traffic traffic{.bytes = 400'000, .most = 2000, .pauses = false, .seed = seed};
  std::string wrong;
  std::thread writer([&] { wrong = write_stream(from.get(), 2, traffic, nullptr); });
  Heard heard;
  while (heard.from[2] < traffic.bytes && heard.wrong.empty()) {
    const auto some = hear(to);
    if (some.empty() && errno != EAGAIN) heard.wrong = "an end";
    if (heard.wrong.empty()) heard.wrong = check_bytes(some.data(), some.size(), heard);
  }
  writer.join();
  return wrong + heard.wrong;
}

// sendmsg() releases its own socket before it takes the reader's, and then handles packets that
// came meanwhile. If one of those took it out of the map, its message was on its way to a socket
// that might leave, too. When exactly it is turned off cannot be made to happen, only be tried
// around.
TEST_F(BypassLeave, AMessageOnItsWayArrivesWhenBothEndsAreAboutToLeave) {
  maps_->set_limits(1200, kernel::kBypassNodeLimit);
  std::mt19937 random(1);
  const auto listener = listen_here();
  const std::string piece(200, 'x');  // more than its credit: by TCP
  int delay = 100, redirected = 0, left = 0;
  const int trials = is_long() ? 1000 : 40;
  for (int trial = 0; trial < trials; ++trial) {
    maps_->set_mode(WEFT_BYPASS_ON);
    const auto [client, server] = connect_to(listener);
    grow_window(client, server, piece);
    const MissingPage message, option;
    std::thread writer(
        [&, fd = client.get()] { EXPECT_EQ(send(fd, message.at(0), 10, MSG_NOSIGNAL), 10); });
    EXPECT_TRUE(eventually([&] { return message.somebody_waits(); }));
    // The client is held, so these wait for it; urgent ones are not merged, nor taken by the
    // kernel's fast path.
    for (int i = 0; i < 900; ++i)
      ASSERT_EQ(send(server.get(), piece.data(), piece.size(), MSG_OOB | MSG_NOSIGNAL), 200);
    std::thread holder([&, fd = server.get()] {
      EXPECT_EQ(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, option.at(-4), 8), 0);
    });
    EXPECT_TRUE(eventually([&] { return option.somebody_waits(); }));
    message.provide('m');
    const auto end = std::chrono::steady_clock::now() +
                     std::chrono::microseconds(delay + static_cast<int>(random() % 30));
    while (std::chrono::steady_clock::now() < end) continue;
    maps_->set_mode(WEFT_BYPASS_OFF);
    left += maps_->look(only_pair().id, 0) == WEFT_BYPASS_LOOK_GONE;
    option.provide(1);
    holder.join();
    writer.join();
    std::string heard;
    while (heard.size() < 10) heard += hear(server);
    ASSERT_EQ(heard, std::string(10, 'm'));
    const bool late = only_pair().value.way[0].tcp_bytes == 0;
    redirected += late;
    delay = std::max(0, delay + (late ? -20 : 50));
  }
  std::printf("of %d, %d were redirected, %d writers had left\n", trials, redirected, left);
}

// Each turns off at another moment of it, thousands leave at once, and all go on by TCP.
TEST_F(BypassLeave, ThousandsThatLeaveAtOnceMissNoByte) {
  const auto listener = listen_here();
  std::vector<Connection> all;
  for (int i = 0; i < 3000; ++i) all.push_back(connect_to(listener));
  std::atomic<int> next{0};
  std::atomic<bool> off{false};
  std::vector<std::thread> threads;
  std::string wrong;
  std::mutex says;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i; (i = next++) < 3000;) {
        const auto what = converse(all[static_cast<unsigned>(i)], static_cast<unsigned>(i));
        if (i == 500 && !off.exchange(true)) maps_->set_mode(WEFT_BYPASS_OFF);
        const std::lock_guard lock(says);
        if (wrong.empty()) wrong = what;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, "");
  next = 0;
  for (auto& connection : all) {
    EXPECT_EQ(converse(connection, 1), "");  // these have left, or leave now
  }
  EXPECT_GT(messages_now(WEFT_BYPASS_REDIRECTED), 0u);
  EXPECT_GT(messages_now(WEFT_BYPASS_TURNED_OFF), 0u);
}

// A stream one way, so long that it moves to TCP, then question and answer, then the other way.
TEST_F(BypassLeave, StreamsThatTurnIntoQuestionsAndBackMissNoByte) {
  const auto listener = listen_here();
  for (int i = 0; i < (is_long() ? 400 : 20); ++i) {
    const auto connection = connect_to(listener);
    for (unsigned round = 0; round < 3; ++round) {
      ASSERT_EQ(converse(connection, round), "");
      ASSERT_EQ(stream_one_way(connection, round, static_cast<unsigned>(i)), "");
    }
    ASSERT_EQ(converse(connection, 5), "");
  }
  EXPECT_GT(messages_now(WEFT_BYPASS_STREAM) + messages_now(WEFT_BYPASS_ORDER), 0u);
}

}  // namespace
}  // namespace weft::tests
