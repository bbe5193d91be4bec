#include "agent/sockets/make.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "abi/capture.h"
#include "agent/kernel/own_socket.h"

namespace weft::sockets {
namespace {

base::Fd make_tcp(int family) {
  return base::Fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
}

bool set(const base::Fd& fd, int level, int option, int value) {
  return setsockopt(fd.get(), level, option, &value, sizeof value) == 0;
}

bool bind_to_loopback(const base::Fd& fd, int family) {
  if (family == AF_INET) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(WEFT_CAPTURE_PORT);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
  }
  sockaddr_in6 at{};
  at.sin6_family = AF_INET6;
  at.sin6_port = htons(WEFT_CAPTURE_PORT);
  at.sin6_addr = in6addr_loopback;
  return bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
}

// 0 or the errno.
int prepare_upstream(const base::Fd& fd, const Marks& marks) {
  // A port is chosen at connect(), when the peer is known: 28,000 a peer, not 28,000 in all.
  if (!set(fd, IPPROTO_TCP, TCP_NODELAY, 1) || !set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1))
    return errno;
  if (!kernel::mark_own_socket(marks.own_sockets.get(), fd.get()).ok()) return EIO;
  // Without this mark its bytes go by TCP, which is no reason not to have the socket.
  if (marks.bypass_readers) (void)kernel::mark_proxy_reader(marks.bypass_readers.get(), fd.get());
  return 0;
}

}  // namespace

base::Fd make_listener(int family, int& error) {
  auto fd = make_tcp(family);
  if (!fd || !set(fd, SOL_SOCKET, SO_REUSEADDR, 1) || !bind_to_loopback(fd, family) ||
      listen(fd.get(), kBacklog)) {
    error = errno;
    return base::Fd();
  }
  // Where a sysctl turns it on for every listener: with data in the SYN this end would be
  // established before the caller's, whose destination nobody has told yet.
  set(fd, IPPROTO_TCP, TCP_FASTOPEN, 0);
  error = 0;
  return fd;
}

Made make_upstreams(const Marks& marks, int family, int count) {
  Made made;
  made.sockets.reserve(count);
  for (int i = 0; i < count; ++i) {
    auto fd = make_tcp(family);
    made.error = fd ? prepare_upstream(fd, marks) : errno;
    if (made.error) break;
    made.sockets.push_back(std::move(fd));
  }
  return made;
}

}  // namespace weft::sockets
