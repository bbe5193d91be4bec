// Byte-exact streams through the bypass: random sizes, both directions at once, several writers,
// and all that makes a direction change its way or leave the map in their midst.
#include <random>
#include <thread>

#include "tests/bpf/bypass_shared.h"
#include "tests/bpf/bypass_streams.h"

namespace weft::tests {
namespace {

class BypassStream : public SharedBypassTest {
 protected:
  // Connection after connection until so much was said, each with other sizes and another reader:
  // a stream soon leaves for plain TCP, and what is tested is the way there.
  void run(Traffic traffic, std::uint64_t bytes) {
    if (is_long()) bytes *= 10;
    unsigned round = 0;
    for (std::uint64_t done = 0; done < bytes; ++round) {
      traffic.seed = round + 1;
      traffic.reading = kReadings[round % std::size(kReadings)];
      const auto connection = connect_to(listener_);
      ASSERT_EQ(exchange(connection, traffic, &again_), "")
          << "round " << round << ", reading " << static_cast<int>(traffic.reading);
      done += 2 * traffic.bytes * static_cast<unsigned>(traffic.writers);
    }
    std::printf(
        "%u connections, redirected %lu bytes, order %lu, credit %lu, stream %lu, off %lu, "
        "reader %lu; %lu times again\n",
        round, bytes_now(WEFT_BYPASS_REDIRECTED), bytes_now(WEFT_BYPASS_ORDER),
        bytes_now(WEFT_BYPASS_CREDIT), bytes_now(WEFT_BYPASS_STREAM),
        bytes_now(WEFT_BYPASS_TURNED_OFF), bytes_now(WEFT_BYPASS_READER), again_.load());
  }

  base::Fd listener_ = listen_here();
  std::atomic<std::uint64_t> again_{0};
};

TEST_F(BypassStream, OneWriterADirectionArrivesByteForByte) { run({.bytes = 1 << 20}, 20'000'000); }

TEST_F(BypassStream, TinyMessagesArriveByteForByte) {
  run({.bytes = 30'000, .most = 64}, 1'000'000);
}

TEST_F(BypassStream, FourWritersWithAMutexArriveByteForByte) {
  run({.writers = 4, .bytes = 300'000}, 20'000'000);
}

TEST_F(BypassStream, FourWritersWithoutAMutexKeepTheOrderOfEach) {
  run({.writers = 4, .shared_mutex = false, .bytes = 300'000}, 20'000'000);
}

// With a mutex: without one, threads of which one waits inside sendmsg() are the case that the
// kernel does not let the bypass keep in order (weft_must_follow).
TEST_F(BypassStream, WritersThatWaitForRoomInTurnArriveByteForByte) {
  maps_->set_limits(20'000, kernel::kBypassNodeLimit);
  run({.writers = 3, .bytes = 300'000, .most = 60'000, .pauses = false, .send_buffer = 4096},
      20'000'000);
}

TEST_F(BypassStream, WritersThatShareASocketAfterForkKeepTheOrderOfEach) {
  run({.writers = 3, .shared_mutex = false, .processes = true, .bytes = 300'000}, 10'000'000);
}

// A second thread that changes something all the time.
class Meddler {
 public:
  template <class Step>
  explicit Meddler(Step step)
      : thread_([this, step] {
          std::mt19937 random(7);
          for (unsigned n = 0; !stop_; ++n) {
            step(n);
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
          }
        }) {}
  ~Meddler() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST_F(BypassStream, OffAndOnInItsMidstChangesNoByte) {
  {
    const Meddler meddler(
        [&](unsigned n) { maps_->set_mode(n % 2 ? WEFT_BYPASS_ON : WEFT_BYPASS_OFF); });
    run({.bytes = 100'000, .most = 8192}, 10'000'000);
    run({.writers = 4, .shared_mutex = false, .bytes = 50'000, .most = 4096}, 10'000'000);
  }
  EXPECT_GT(bytes_now(WEFT_BYPASS_TURNED_OFF), 0u);
}

TEST_F(BypassStream, WordsThatChangeInItsMidstChangeNoByte) {
  sockaddr_in at{};
  socklen_t length = sizeof at;
  getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&at), &length);
  kernel::BypassTarget target{};
  target.target.addr = compile::to_abi(*model::Address::parse("127.0.0.1"));
  target.target.port = at.sin_port;
  {
    const Meddler meddler([&](unsigned n) {
      target.word = n % 3 == 0 ? WEFT_BYPASS_SAYS_OFF : WEFT_BYPASS_SAYS_ON;
      EXPECT_TRUE(
          maps_
              ->set_services(n % 3 == 1 ? std::vector<kernel::BypassTarget>{} : std::vector{target})
              .ok());
      maps_->set_mode(n % 5 ? WEFT_BYPASS_ON : WEFT_BYPASS_AUTO);
    });
    run({.bytes = 100'000, .most = 8192}, 10'000'000);
    run({.writers = 3, .shared_mutex = false, .bytes = 50'000, .most = 4096}, 10'000'000);
  }
  EXPECT_TRUE(maps_->set_services({}).ok());
  EXPECT_GT(bytes_now(WEFT_BYPASS_READER), 0u);
}

}  // namespace
}  // namespace weft::tests
