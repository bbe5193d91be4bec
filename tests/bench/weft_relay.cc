// The floor of scripts/bench l7: carries bytes between each client and one upstream connection of
// its own and looks at none of them. What a proxy costs beyond this is its own doing; what this
// costs is the kernel's.
//
//   weft_relay LISTEN_ADDR:PORT TO_ADDR:PORT      says "ready", serves until killed
//
// One thread, edge-triggered epoll: a request costs two recv, two send and a share of epoll_wait.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/sockets.h"

namespace {

using namespace weft::bench;

constexpr std::size_t kChunk = 64 << 10;

struct Pair;

struct Side {
  int fd = -1;
  Pair* pair = nullptr;
  Side* other = nullptr;
  std::string unsent;  // what its socket did not take yet; nothing is read for it meanwhile
  bool hung = false;   // its peer ended: read until that is reached
  bool ended = false;  // and reached
};

struct Pair {
  Side client, upstream;
};

class Relay {
 public:
  Relay(const sockaddr_in& at, const sockaddr_in& to) : to_(to) {
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&at), sizeof at) ||
        listen(listener_, 4096))
      die("listen");
    watch(epoll_, listener_, EPOLLIN, nullptr);
    std::puts("ready");
    std::fflush(stdout);
  }

  [[noreturn]] void run() {
    epoll_event events[256];
    for (;;) {
      const int count = epoll_wait(epoll_, events, 256, -1);
      for (int i = 0; i < count; ++i) {
        if (auto* side = static_cast<Side*>(events[i].data.ptr))
          on_ready(*side, events[i].events);
        else
          accept_all();
      }
      gone_.clear();
    }
  }

 private:
  void accept_all() {
    for (int fd; (fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      auto* pair = new Pair;  // end() deletes it
      pair->client.fd = fd;
      pair->upstream.fd = connect_to(to_);
      pair->client.pair = pair->upstream.pair = pair;
      pair->client.other = &pair->upstream;
      pair->upstream.other = &pair->client;
      for (auto* side : {&pair->client, &pair->upstream})
        watch(epoll_, side->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, side);
    }
  }

  void on_ready(Side& side, unsigned events) {
    if (side.fd < 0) return;  // closed earlier in this batch
    side.hung |= events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (events & EPOLLOUT && !side.unsent.empty()) {
      flush(side);
      if (side.fd >= 0 && side.unsent.empty()) carry(*side.other);
    }
    if (side.fd >= 0 && events & ~EPOLLOUT) carry(side);
  }

  // All that `from` has, to the other side. A short read says that there is no more for now.
  void carry(Side& from) {
    auto& to = *from.other;
    while (!from.ended && to.unsent.empty()) {
      const auto got = recv(from.fd, chunk_.get(), kChunk, 0);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) {
        from.ended = true;
        break;
      }
      const auto sent = send(to.fd, chunk_.get(), got, MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) return end(from);
      if (sent < got)
        to.unsent.assign(chunk_.get() + std::max<ssize_t>(sent, 0), chunk_.get() + got);
      if (got < static_cast<ssize_t>(kChunk) && !from.hung) return;
    }
    if (from.ended && to.unsent.empty()) end(from);
  }

  void flush(Side& side) {
    const auto sent = send(side.fd, side.unsent.data(), side.unsent.size(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? void() : end(side);
    side.unsent.erase(0, sent);
  }

  void end(Side& side) {
    for (auto* each : {&side, side.other}) {
      close(each->fd);
      each->fd = -1;
    }
    gone_.emplace_back(side.pair);  // later events of this batch may still name either side
  }

  sockaddr_in to_;
  int epoll_ = epoll_create1(0);
  int listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  std::unique_ptr<char[]> chunk_ = std::make_unique<char[]>(kChunk);
  std::vector<std::unique_ptr<Pair>> gone_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: weft_relay LISTEN_ADDR:PORT TO_ADDR:PORT\n", stderr);
    return 2;
  }
  raise_descriptors();
  Relay(parse_address(argv[1]), parse_address(argv[2])).run();
}
