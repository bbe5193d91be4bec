// Descriptors of a real process, in a network namespace of its own. Needs root, as weftd does.
#include "agent/proxy/adopt.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "abi/capture.h"

namespace weft::proxy {
namespace {

int listen_v4(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  return bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) || listen(fd, 16) ? -1
                                                                                           : fd;
}

int listen_v6(std::uint16_t port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  address.sin6_port = htons(port);
  const int fd = socket(AF_INET6, SOCK_STREAM, 0);
  return bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) || listen(fd, 16) ? -1
                                                                                           : fd;
}

// Listens as a proxy does, and elsewhere, twice over.
pid_t start_proxy(std::uint64_t& cookie) {
  int ends[2];
  if (pipe(ends)) return -1;
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNET) || std::system("ip link set lo up")) _exit(1);
    const int v6 = listen_v6(WEFT_CAPTURE_PORT), v4 = listen_v4(WEFT_CAPTURE_PORT);
    if (v4 < 0 || v6 < 0 || dup(v4) < 0 || listen_v4(WEFT_CAPTURE_PORT + 1) < 0) _exit(1);
    socklen_t length = sizeof cookie;
    getsockopt(v4, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length);
    if (write(ends[1], &cookie, sizeof cookie) != sizeof cookie) _exit(1);
    for (;;) pause();
  }
  close(ends[1]);
  if (read(ends[0], &cookie, sizeof cookie) != sizeof cookie) cookie = 0;
  close(ends[0]);
  return pid;
}

TEST(Adopt, FindsTheListenersOfAProxyByTheirNamespace) {
  std::uint64_t cookie = 0;
  const pid_t pid = start_proxy(cookie);
  ASSERT_NE(cookie, 0u);
  const auto found = listeners_of({pid, pid, 999999999});
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  ASSERT_EQ(found.size(), 1u);
  const auto& adopted = found.at(cookie);
  EXPECT_EQ(adopted.families, std::uint32_t{WEFT_LISTENING_V4 | WEFT_LISTENING_V6});
  ASSERT_EQ(adopted.listeners.size(), 2u);
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  getsockname(adopted.listeners[0].get(), reinterpret_cast<sockaddr*>(&address), &length);
  EXPECT_EQ(address.ss_family, AF_INET);
}

TEST(Adopt, OfNobodyIsNothing) {
  EXPECT_TRUE(listeners_of({}).empty());
  EXPECT_TRUE(listeners_of({getpid()}).empty());
}

}  // namespace
}  // namespace weft::proxy
