// A bypass of its own on the running kernel: this process in the node's cgroup and, with this
// thread, in a network namespace that has a loopback alone. Sockets made here pair up.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "agent/kernel/bypass.h"
#include "tests/bpf/caller.h"

namespace weft::tests {

struct Connection {
  base::Fd client, server;
};

class BypassTest : public ::testing::Test {
 protected:
  explicit BypassTest(weft_bypass_mode mode = WEFT_BYPASS_ON) : mode_(mode) {}

  void SetUp() override {
    node_.start();
    auto maps = kernel::load_bypass(node_.pins(), node_.cgroup());
    ASSERT_TRUE(maps.ok()) << maps.status();
    maps_.emplace(*std::move(maps));
    maps_->set_mode(mode_);
    caller_.emplace(node_);
  }

  void TearDown() override {
    caller_.reset();
    maps_.reset();
    auto status = kernel::uninstall_bypass(node_.pins(), [](const auto&) { return true; });
    EXPECT_TRUE(status.ok()) << status;
  }

  static base::Fd listen_here(int family = AF_INET);
  static Connection connect_to(const base::Fd& listener, int family = AF_INET);
  Connection connect_here(int family = AF_INET) { return connect_to(listen_here(family), family); }

  std::uint64_t bytes(weft_bypass_path path) const { return maps_->counts()[path].bytes; }
  std::uint64_t messages(weft_bypass_path path) const { return maps_->counts()[path].messages; }
  // Of the only pair there is.
  kernel::BypassPair only_pair() const {
    const auto pairs = maps_->pairs();
    EXPECT_TRUE(pairs.ok() && pairs->size() == 1) << (pairs.ok() ? pairs->size() : 0);
    return pairs.ok() && pairs->size() == 1 ? pairs->front() : kernel::BypassPair{};
  }

  KernelNode node_;
  std::optional<kernel::BypassMaps> maps_;
  std::optional<Caller> caller_;

 private:
  weft_bypass_mode mode_;
};

inline base::Fd BypassTest::listen_here(int family) {
  base::Fd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage at{};
  at.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET)
    reinterpret_cast<sockaddr_in&>(at).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  else
    reinterpret_cast<sockaddr_in6&>(at).sin6_addr = in6addr_loopback;
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&at),
                 family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)),
            0);
  EXPECT_EQ(listen(fd.get(), 4096), 0);
  return fd;
}

inline Connection BypassTest::connect_to(const base::Fd& listener, int family) {
  sockaddr_storage at{};
  socklen_t length = sizeof at;
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at), &length);
  Connection made;
  made.client = base::Fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(made.client.get(), reinterpret_cast<sockaddr*>(&at), length), 0)
      << std::strerror(errno);
  made.server = base::Fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(made.server);
  return made;
}

inline void say(const base::Fd& fd, const std::string& text) {
  ASSERT_EQ(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()));
}

// What one recv() gives, at most `most` bytes.
inline std::string hear(const base::Fd& fd, std::size_t most = 65536, int flags = 0) {
  std::string text(most, '\0');
  const auto got = recv(fd.get(), text.data(), text.size(), flags);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

}  // namespace weft::tests
