#include "tests/bpf/caller.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace weft::tests {
namespace {

std::string own_cgroup(const std::string& some_cgroup) {
  std::ifstream file("/proc/self/cgroup"), mounts("/proc/self/mounts");
  std::string line, path;
  while (std::getline(file, line))
    if (line.starts_with("0::")) path = line.substr(3);
  return some_cgroup.substr(0, some_cgroup.rfind('/')) + (path == "/" ? "" : path);
}

sockaddr_in address_of(const std::string& text, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, text.c_str(), &address.sin_addr);
  return address;
}

int connect_to(int fd, const std::string& text, std::uint16_t port) {
  const auto address = address_of(text, port);
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) ? errno : 0;
}

}  // namespace

bool enter_cgroup(const std::string& cgroup) {
  const base::Fd procs(open((cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  return procs && write(procs.get(), "0", 1) == 1;
}

Namespace::Namespace() : home_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
  EXPECT_TRUE(home_ && unshare(CLONE_NEWNET) == 0) << std::strerror(errno);
  const base::Fd control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq loopback{};
  std::strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP;
  EXPECT_EQ(ioctl(control.get(), SIOCSIFFLAGS, &loopback), 0) << std::strerror(errno);
}

Namespace::~Namespace() { EXPECT_EQ(setns(home_.get(), CLONE_NEWNET), 0) << std::strerror(errno); }

Caller::Caller(KernelNode& node) : home_(own_cgroup(node.cgroup())) {
  EXPECT_TRUE(enter_cgroup(node.cgroup())) << std::strerror(errno);
  kernel::store(node.maps().meta.at(0).agent_tgid, 0);
}

Caller::~Caller() { EXPECT_TRUE(enter_cgroup(home_)) << home_ << ": " << std::strerror(errno); }

base::Fd listen_on(const std::string& text, int backlog) {
  base::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const auto address = address_of(text, 8080);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(listen(fd.get(), backlog), 0) << std::strerror(errno);
  return fd;
}

BlackHole::BlackHole(const std::string& address) : listener(listen_on(address, 0)) {
  // The queue holds one more than the backlog; what does not fit hangs in SYN_SENT.
  for (int i = 0; i < 4; ++i) {
    base::Fd socket;
    dial_now(address, socket, 8080);
    fillers.push_back(std::move(socket));
  }
  // Of a listening socket this is the length of its queue.
  EXPECT_TRUE(eventually([&] {
    tcp_info info{};
    socklen_t length = sizeof info;
    return getsockopt(listener.get(), IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
           info.tcpi_unacked > 0;
  }));
}

int dial(const std::string& text, base::Fd* keep, std::uint16_t port) {
  base::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int error = connect_to(fd.get(), text, port);
  if (keep && !error) *keep = std::move(fd);
  return error;
}

int dial_now(const std::string& text, base::Fd& socket_out, std::uint16_t port) {
  socket_out = base::Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return connect_to(socket_out.get(), text, port);
}

void close_with_reset(base::Fd& fd) {
  const linger now{1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  fd = base::Fd();
}

base::Fd accept_one(const base::Fd& listener) {
  return base::Fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

}  // namespace weft::tests
