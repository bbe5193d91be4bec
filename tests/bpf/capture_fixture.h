// What tests of capture stand on: a service "web" with HTTP rules at 10.96.0.1 and fd00:96::1, a
// cgroup for the proxy below the node's, and listeners on port 15001 that were made there, in a
// network namespace of its own.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "agent/kernel/capture.h"
#include "tests/bpf/caller.h"

namespace weft::tests {

inline const std::string kWeb = "10.96.0.1", kWeb6 = "fd00:96::1";

// Any address, as a socket of that family dials it.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  SocketAddress() = default;
  SocketAddress(int family, const std::string& text, std::uint16_t port) {
    storage.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
      auto& in = reinterpret_cast<sockaddr_in&>(storage);
      in.sin_port = htons(port);
      length = sizeof in;
      EXPECT_EQ(inet_pton(AF_INET, text.c_str(), &in.sin_addr), 1) << text;
    } else {
      auto& in6 = reinterpret_cast<sockaddr_in6&>(storage);
      in6.sin6_port = htons(port);
      length = sizeof in6;
      EXPECT_EQ(inet_pton(AF_INET6, text.c_str(), &in6.sin6_addr), 1) << text;
    }
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  std::uint16_t port() const {
    return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port);
  }
  std::string text() const {
    char buffer[INET6_ADDRSTRLEN] = "";
    if (storage.ss_family == AF_INET)
      inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(storage).sin_addr, buffer,
                sizeof buffer);
    else
      inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr, buffer,
                sizeof buffer);
    return std::string(buffer) + " port " + std::to_string(port());
  }
};

inline base::Fd tcp(int family, int flags = 0) {
  return base::Fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
}
inline int connect_to(const base::Fd& fd, const SocketAddress& to) {
  return connect(fd.get(), to.get(), to.length) ? errno : 0;
}
// A socket of that family, connected, blocking; none where it failed.
inline base::Fd connected(int family, const std::string& address, std::uint16_t port = 80) {
  auto fd = tcp(family);
  const int error = connect_to(fd, {family, address, port});
  EXPECT_EQ(error, 0) << address << ": " << std::strerror(error);
  return error ? base::Fd() : std::move(fd);
}
inline SocketAddress peer_of(const base::Fd& fd) {
  SocketAddress peer;
  peer.length = sizeof peer.storage;
  EXPECT_EQ(getpeername(fd.get(), peer.get(), &peer.length), 0) << std::strerror(errno);
  return peer;
}
inline std::uint16_t own_port(const base::Fd& fd) {
  SocketAddress own;
  own.length = sizeof own.storage;
  EXPECT_EQ(getsockname(fd.get(), own.get(), &own.length), 0);
  return own.port();
}

// SO_ORIGINAL_DST as any proxy asks for it: "10.96.0.1 port 80", or the errno's name.
inline std::string original_of(const base::Fd& fd, int level = SOL_IP) {
  SocketAddress original;
  original.length = level == SOL_IP ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  const auto wanted = original.length;
  if (getsockopt(fd.get(), level, 80, &original.storage, &original.length))
    return strerrorname_np(errno);
  EXPECT_EQ(original.length, wanted);
  return original.text();
}
inline int origin_of(const base::Fd& fd, weft_origin& origin) {
  socklen_t length = sizeof origin;
  if (getsockopt(fd.get(), WEFT_SOL, WEFT_SO_ORIGIN, &origin, &length)) return errno;
  EXPECT_EQ(length, sizeof origin);
  return 0;
}
// Of the thread's network namespace.
inline std::uint64_t netns_cookie() {
  const auto fd = tcp(AF_INET);
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  EXPECT_EQ(getsockopt(fd.get(), SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &cookie, &length), 0);
  return cookie;
}

inline base::Fd listen_at(int family, const std::string& address, std::uint16_t port,
                          int backlog = 4096) {
  auto fd = tcp(family);
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const SocketAddress at(family, address, port);
  EXPECT_EQ(bind(fd.get(), at.get(), at.length), 0) << address << ": " << std::strerror(errno);
  EXPECT_EQ(listen(fd.get(), backlog), 0) << std::strerror(errno);
  return fd;
}

// weft.mesh/proxy-down: direct
inline model::Service with_rules(model::Service service) {
  service.traffic.proxy_down = model::ProxyDown::kDirect;
  service.ports[0].http = std::make_shared<const model::HttpRoutes>();
  return service;
}

class Capture : public testing::Test {
 protected:
  void SetUp() override {
    node_.start();
    proxy_cgroup_ = node_.cgroup() + "/weft-proxy";
    ASSERT_EQ(mkdir(proxy_cgroup_.c_str(), 0755), 0) << std::strerror(errno);
    const auto status = node_.datapath().attach_proxy(proxy_cgroup_);
    ASSERT_TRUE(status.ok()) << status;
    caller_.emplace(node_);
    apply({with_rules(make_service("web", {kWeb, kWeb6}, {"127.0.0.9"}))});
    kernel::set_proxy_up(node_.maps(), true);
    cookie_ = netns_cookie();
    listen_here();
    capture(cookie_);
  }
  void TearDown() override {
    v4_ = base::Fd();
    v6_ = base::Fd();
    caller_.reset();
    EXPECT_EQ(rmdir(proxy_cgroup_.c_str()), 0) << std::strerror(errno);
  }

  void apply(const std::vector<model::Service>& services) { node_.apply(make_mesh(services)); }
  // In the thread's namespace; made by a process of the proxy's cgroup.
  void listen_here(int backlog = 4096) {
    v4_ = base::Fd();
    v6_ = base::Fd();
    as_proxy([&] {
      v4_ = listen_at(AF_INET, "127.0.0.1", WEFT_CAPTURE_PORT, backlog);
      v6_ = listen_at(AF_INET6, "::1", WEFT_CAPTURE_PORT, backlog);
    });
  }
  template <class F>
  void as_proxy(F&& act) {
    EXPECT_TRUE(enter_cgroup(proxy_cgroup_)) << std::strerror(errno);
    act();
    EXPECT_TRUE(enter_cgroup(node_.cgroup())) << std::strerror(errno);
  }
  void capture(std::uint64_t cookie,
               std::uint32_t listening = WEFT_LISTENING_V4 | WEFT_LISTENING_V6) {
    const auto status = kernel::set_capture(node_.maps(), cookie, listening);
    EXPECT_TRUE(status.ok()) << status;
  }
  weft_service_state& total() { return node_.maps().service_states.at(node_.index_of("web")); }
  std::size_t waiting() {
    std::size_t entries = 0;
    EXPECT_TRUE(node_.maps().originals.for_each([&](const auto&, const auto&) { ++entries; }).ok());
    return entries;
  }
  // Whether any of the two listeners has a connection.
  bool anybody_came() {
    for (const auto* listener : {&v4_, &v6_}) {
      if (!*listener) continue;
      pollfd poll_fd{listener->get(), POLLIN, 0};
      if (poll(&poll_fd, 1, 0) > 0) return true;
    }
    return false;
  }

  KernelNode node_{/*proxy=*/true};
  std::string proxy_cgroup_;
  std::optional<Caller> caller_;
  std::uint64_t cookie_ = 0;
  base::Fd v4_, v6_;
};

}  // namespace weft::tests
