// A process that behaves towards weftd as weft-proxy does, or as it should not: for the tests of
// who supervises it. Serves nothing; whoever connects to a workload's listener is told the number
// of its generation. WEFT_TEST_PROXY says, comma-separated:
//   mute           never speaks
//   stall          stops for good at once when it has applied its first configuration
//   die            ends with 7 then
//   deaf           takes no notice of Drain
//   garbage        says what is no message
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <weft/v1/proxy.pb.h>

namespace {

constexpr int kControl = 3;
constexpr int kBeatMs = 20;

bool behaves(const char* how) {
  const char* said = getenv("WEFT_TEST_PROXY");
  return said && std::strstr(said, how);
}

void say(const weft::v1::FromProxy& message) {
  if (behaves("mute")) return;
  const auto bytes = message.SerializeAsString();
  const auto length = static_cast<std::uint32_t>(bytes.size());
  std::string frame(reinterpret_cast<const char*>(&length), sizeof length);
  frame += bytes;
  send(kControl, frame.data(), frame.size(), MSG_NOSIGNAL);
}

class Proxy {
 public:
  explicit Proxy(std::string number) : number_(std::move(number)) {}

  int run() {
    if (behaves("garbage")) say_garbage();
    for (;;) {
      std::vector<pollfd> watched = {{kControl, POLLIN, 0}};
      for (const int fd : listeners_) watched.push_back({fd, POLLIN, 0});
      if (closed_) watched[0].fd = -1;
      poll(watched.data(), watched.size(), kBeatMs);
      weft::v1::FromProxy beat;
      beat.mutable_heartbeat()->set_connections(answered_);
      if (!closed_) say(beat);
      for (std::size_t i = 1; i < watched.size(); ++i)
        if (watched[i].revents & POLLIN) answer(watched[i].fd);
      if (watched[0].revents) read_control();
    }
  }

 private:
  static void say_garbage() {
    const std::string frame("\x03\x00\x00\x00\xff\xff\xff", 7);
    send(kControl, frame.data(), frame.size(), MSG_NOSIGNAL);
  }

  void answer(int listener) {
    const int client = accept(listener, nullptr, nullptr);
    if (client < 0) return;
    ++answered_;
    send(client, number_.data(), number_.size(), MSG_NOSIGNAL);
    close(client);
  }

  void read_control() {
    char bytes[65536];
    iovec part{bytes, sizeof bytes};
    alignas(cmsghdr) char control[CMSG_SPACE(64 * sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const auto length = recvmsg(kControl, &message, MSG_CMSG_CLOEXEC);
    if (length <= 0) {  // its weftd has gone: it goes on
      closed_ = true;
      return;
    }
    for (auto* part_of = CMSG_FIRSTHDR(&message); part_of; part_of = CMSG_NXTHDR(&message, part_of))
      take_descriptors(*part_of);
    in_.append(bytes, static_cast<std::size_t>(length));
    take_messages();
  }

  void take_descriptors(const cmsghdr& header) {
    if (header.cmsg_type != SCM_RIGHTS) return;
    const auto count = (header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(&header) + i * sizeof fd, sizeof fd);
      listeners_.push_back(fd);
    }
  }

  void take_messages() {
    std::uint32_t length;
    while (in_.size() >= sizeof length) {
      std::memcpy(&length, in_.data(), sizeof length);
      if (in_.size() < sizeof length + length) return;
      weft::v1::ToProxy message;
      if (!message.ParseFromString(in_.substr(sizeof length, length))) _exit(2);
      in_.erase(0, sizeof length + length);
      handle(message);
    }
  }

  void handle(const weft::v1::ToProxy& message) {
    weft::v1::FromProxy answer;
    if (message.has_config()) {
      answer.mutable_applied()->set_generation(message.config().generation());
      say(answer);
      if (behaves("die")) _exit(7);
      while (behaves("stall")) pause();
    }
    if (message.has_drain() && !behaves("deaf")) {
      answer.mutable_drained();
      say(answer);
      _exit(0);
    }
  }

  const std::string number_;
  std::vector<int> listeners_;
  std::string in_;
  std::uint64_t answered_ = 0;
  bool closed_ = false;
};

}  // namespace

// weft_test_proxy --generation N
int main(int argc, char** argv) { return Proxy(argc > 2 ? argv[2] : "0").run(); }
