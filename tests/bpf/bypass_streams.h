// Streams whose every byte says who of up to four writers wrote it, and when: a reader tells what
// was lost, doubled or overtaken for each writer, however their messages interleave or are torn
// (as plain TCP does with writers that share a socket without a mutex).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "tests/bpf/bypass_fixture.h"

namespace weft::tests {

enum class Reading { kBlocking, kPoll, kSelect, kEpollLevel, kEpollEdge };
inline constexpr Reading kReadings[] = {Reading::kBlocking, Reading::kPoll, Reading::kSelect,
                                        Reading::kEpollLevel, Reading::kEpollEdge};

// What one reader has found, and how.
struct Heard {
  std::array<std::uint64_t, 4> from{};  // bytes, by writer
  std::uint64_t again = 0;              // a blocking recv() that answered EAGAIN
  std::string wrong;                    // the first that was, or empty
};

struct Traffic {
  int writers = 1;                // threads of each direction
  bool shared_mutex = true;       // a message of one is whole before another's begins
  bool processes = false;         // writers are processes that share the socket, without a mutex
  std::uint64_t bytes = 1 << 20;  // of each writer
  std::size_t most = 64 << 10;    // of one message; sizes are spread over all magnitudes
  bool pauses = true;
  Reading reading = Reading::kBlocking;
  int send_buffer = 0;  // 0: the kernel's
  unsigned seed = 1;
};

// Sends `bytes` of a writer's; "" or what went wrong. A socket that does not block is waited for.
std::string write_stream(int fd, unsigned writer, const Traffic& traffic, std::mutex* mutex);
// Reads until the end of the stream.
Heard read_stream(int fd, Reading reading);
// What `text` says of the next bytes of each writer; "" or what is wrong with it.
std::string check_bytes(const char* data, std::size_t size, Heard& heard);
// `size` bytes of a writer's, from its nth on.
std::string make_bytes(unsigned writer, std::uint64_t n, std::size_t size);

// Both directions at once, to the end of both: writers, then FIN; "" or what went wrong. The sum
// of Heard::again goes to `again`.
std::string exchange(const Connection& connection, const Traffic& traffic,
                     std::atomic<std::uint64_t>* again = nullptr);

// Whether that thread of this process waits for something.
bool sleeps(int tid);

}  // namespace weft::tests
