// Leaving the map (weft_may_leave), attacked: what is queued in a socket that leaves is lost, and
// so is what is on its way there.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
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

// While it lives, its thread stays on one CPU.
class OnCpu {
 public:
  explicit OnCpu(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    EXPECT_EQ(sched_getaffinity(0, sizeof before_, &before_), 0);
    EXPECT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
  }
  ~OnCpu() { sched_setaffinity(0, sizeof before_, &before_); }
  OnCpu(const OnCpu&) = delete;
  OnCpu& operator=(const OnCpu&) = delete;

 private:
  cpu_set_t before_;
};

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

std::uint32_t sequence_of(const base::Fd& fd, int queue) {
  const int on = 1, off = -1;
  std::uint32_t sequence = 0;
  socklen_t length = sizeof sequence;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof on);
  setsockopt(fd.get(), IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue);
  getsockopt(fd.get(), IPPROTO_TCP, TCP_QUEUE_SEQ, &sequence, &length);
  setsockopt(fd.get(), IPPROTO_TCP, TCP_REPAIR, &off, sizeof off);
  return sequence;
}

// Acknowledgements of nothing new that seem to come from the socket's peer. No two in a row are
// alike, so that the kernel merges none of them, nor takes them by its fast path.
class Forger {
 public:
  explicit Forger(const base::Fd& to)
      : raw_(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP)) {
    sockaddr_in own{}, peer{};
    socklen_t length = sizeof own;
    getsockname(to.get(), reinterpret_cast<sockaddr*>(&own), &length);
    getpeername(to.get(), reinterpret_cast<sockaddr*>(&peer), &length);
    segment_.source = peer.sin_port;
    segment_.dest = own.sin_port;
    segment_.seq = htonl(sequence_of(to, 1));      // TCP_RECV_QUEUE
    segment_.ack_seq = htonl(sequence_of(to, 2));  // TCP_SEND_QUEUE
    segment_.doff = 5;
    segment_.ack = 1;
  }

  void send(int count) {
    for (int i = 0; i < count; ++i) {
      segment_.res2 = i % 2 ? 1 : 0;  // ECE
      segment_.window = htons(static_cast<std::uint16_t>(1000 + i % 2));
      segment_.check = 0;
      segment_.check = checksum();
      sockaddr_in at{};
      at.sin_family = AF_INET;
      at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      ASSERT_EQ(sendto(raw_.get(), &segment_, sizeof segment_, 0,
                       reinterpret_cast<const sockaddr*>(&at), sizeof at),
                ssize_t{sizeof segment_});
    }
  }

 private:
  std::uint16_t checksum() const {
    std::uint16_t words[sizeof segment_ / 2];
    std::memcpy(words, &segment_, sizeof segment_);
    // The pseudo header: 127.0.0.1 twice, the protocol, the length.
    std::uint32_t sum =
        2u * (htons(0x7f00) + htons(1)) + htons(IPPROTO_TCP) + htons(sizeof segment_);
    for (const auto word : words) sum += word;
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~((sum & 0xffff) + (sum >> 16)));
  }

  base::Fd raw_;
  tcphdr segment_{};
};

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
// that might leave, too.
TEST_F(BypassLeave, AMessageOnItsWayArrivesWhenBothEndsAreAboutToLeave) {
  ASSERT_GT(sysconf(_SC_NPROCESSORS_ONLN), 1) << "needs two CPUs";
  const OnCpu here(0);  // the writer is on another
  const auto listener = listen_here();
  int left = 0;
  for (int trial = 0; trial < 20; ++trial) {
    EXPECT_TRUE(eventually([&] { return maps_->pairs()->empty(); }));  // the last trial's has gone
    maps_->set_mode(WEFT_BYPASS_ON);
    const auto [client, server] = connect_to(listener);
    const int room = 8 << 20;
    setsockopt(client.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    Forger to_client(client), to_server(server);
    const MissingPage message, option;
    std::atomic<int> tid{0};
    std::thread writer([&, fd = client.get()] {
      const OnCpu there(1);
      tid = gettid();
      EXPECT_EQ(send(fd, message.at(0), 10, MSG_NOSIGNAL), 10);
    });
    std::thread holder([&, fd = server.get()] {
      EXPECT_EQ(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, option.at(-4), 8), 0);
    });
    EXPECT_TRUE(eventually([&] { return message.somebody_waits(); }));
    EXPECT_TRUE(eventually([&] { return option.somebody_waits(); }));
    to_client.send(3000);  // both are held, so these wait for them
    to_server.send(10);
    message.provide('m');
    // Its verdict is counted before its socket is released, and that takes a while.
    while (only_pair().value.way[0].messages == 0) continue;
    maps_->set_mode(WEFT_BYPASS_OFF);
    EXPECT_TRUE(eventually([&] { return sleeps(tid); }));  // it waits for its reader's socket
    left += maps_->look(only_pair().id, 0) == WEFT_BYPASS_LOOK_GONE;
    option.provide(1);
    holder.join();
    writer.join();
    std::string heard;
    for (int i = 0; i < 3 && heard.size() < 10; ++i) heard += hear(server, 100, MSG_DONTWAIT);
    EXPECT_EQ(heard, std::string(10, 'm'));
  }
  std::printf("in %d of 20 trials its writer had left\n", left);
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
