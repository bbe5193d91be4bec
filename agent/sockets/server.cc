#include "agent/sockets/server.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "abi/capture.h"
#include "agent/sockets/make.h"
#include "mesh/base/log.h"

namespace weft::sockets {
namespace {

bool never_blocks(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

bool is_seqpacket(int fd) {
  int type = 0;
  socklen_t length = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_SEQPACKET;
}

}  // namespace

Server::Server(base::Fd control, Marks marks, Namespaces namespaces)
    : control_(std::move(control)),
      marks_(std::move(marks)),
      namespaces_(std::move(namespaces)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

int Server::watch(int operation, int fd, bool owes) {
  epoll_event event{};
  event.events = owes ? EPOLLOUT : EPOLLIN;  // that it is closed is told either way
  event.data.fd = fd;
  return epoll_ctl(epoll_.get(), operation, fd, &event) ? errno : 0;
}

absl::Status Server::run() {
  if (!is_seqpacket(control_.socket()) || !never_blocks(control_.socket()))
    return absl::InvalidArgumentError("descriptor 3 is no Unix seqpacket socket");
  if (const int error = epoll_ ? watch(EPOLL_CTL_ADD, control_.socket(), false) : errno)
    return absl::ErrnoToStatus(error, "cannot wait for orders");
  while (!done_) {
    std::array<epoll_event, 64> events;
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    if (count < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "epoll_wait");
    for (int i = 0; i < count && !done_; ++i)
      wake(events[i].data.fd, !(events[i].events & EPOLLOUT));
  }
  return absl::OkStatus();
}

// `fd` may have been closed by an event before this one of the same batch; its number may even be
// another's by now, which then finds nothing to read.
void Server::wake(int fd, bool readable) {
  if (fd == control_.socket()) {
    if (readable)
      serve_control();
    else if (!control_.settle())
      lose_control();
    if (!orphan_) watch(EPOLL_CTL_MOD, fd, control_.owes());
    return;
  }
  const auto at = proxies_.find(fd);
  if (at == proxies_.end()) return;
  if (readable) return serve_proxy(at->second);
  if (!at->second.peer.settle()) return drop_proxy(fd, "closed");
  watch(EPOLL_CTL_MOD, fd, at->second.peer.owes());
}

void Server::serve_control() {
  Datagram datagram;
  const int error = receive_datagram(control_.socket(), datagram);
  if (error == EAGAIN) return;
  ControlRequest request;
  if (error) {
    lose_control();
  } else if (datagram.cut || !datagram.read(request)) {
    log::error("control", {{"error", "a datagram of another length, or cut"},
                           {"bytes", datagram.bytes.size()}});
    lose_control();
  } else {
    carry_out(request, std::move(datagram.descriptors));
  }
}

// weftd has gone. Its proxies serve on until its successor's do, and need sockets for that.
void Server::lose_control() {
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, control_.socket(), nullptr);
  orphan_ = true;
  done_ = proxies_.empty();
}

void Server::carry_out(const ControlRequest& request, std::vector<base::Fd> descriptors) {
  ControlAnswer answer{.tag = request.tag};
  std::vector<base::Fd> listeners;
  const auto order = static_cast<Order>(request.order);
  const bool brings_one = order == Order::kAddNetns || order == Order::kAddProxy;
  if (descriptors.size() != (brings_one ? 1 : 0)) {
    answer.error = EBADF;
  } else if (order == Order::kAddNetns) {
    if (request.netns_cookie == kOwnNamespace)
      answer.error = EINVAL;
    else
      namespaces_.add(request.netns_cookie, std::move(descriptors[0]));
  } else if (order == Order::kDropNetns) {
    namespaces_.drop(request.netns_cookie);
  } else if (order == Order::kAddProxy) {
    answer.error = add_proxy(request.generation, std::move(descriptors[0]));
  } else if (order == Order::kListen) {
    listen_in(request.netns_cookie, answer, listeners);
  } else {
    answer.error = EINVAL;
  }
  ControlAnswer without{.tag = request.tag, .error = EAGAIN};
  if (!control_.answer(bytes_of(answer), listeners, bytes_of(without))) lose_control();
}

void Server::listen_in(std::uint64_t cookie, ControlAnswer& answer,
                       std::vector<base::Fd>& listeners) {
  answer.error = namespaces_.within(cookie, [&] {
    const auto add = [&](int family, std::uint16_t flag, std::uint16_t& why) {
      int error = 0;
      auto listener = make_listener(family, error);
      why = error;
      if (!listener) return;
      answer.listening |= flag;
      listeners.push_back(std::move(listener));
    };
    add(AF_INET, WEFT_LISTENING_V4, answer.error_v4);
    add(AF_INET6, WEFT_LISTENING_V6, answer.error_v6);
  });
}

int Server::add_proxy(std::uint64_t generation, base::Fd socket) {
  const int fd = socket.get();
  if (!is_seqpacket(fd)) return EPROTOTYPE;
  if (!never_blocks(fd)) return errno;
  if (const int error = watch(EPOLL_CTL_ADD, fd, false)) return error;
  proxies_.insert_or_assign(fd, Proxy{generation, Peer(std::move(socket))});
  return 0;
}

// One question a turn, so that nobody waits for somebody else's sixteen and sixteen more.
void Server::serve_proxy(Proxy& proxy) {
  const int fd = proxy.peer.socket();
  Datagram datagram;
  const int error = receive_datagram(fd, datagram);
  if (error == EAGAIN) return;
  if (error) return drop_proxy(fd, "closed");
  Ask ask;
  if (datagram.cut || !datagram.descriptors.empty() || !datagram.read(ask))
    return drop_proxy(fd, "its question is none");
  if (!answer(proxy, ask)) return drop_proxy(fd, "closed");
  if (proxy.peer.owes()) watch(EPOLL_CTL_MOD, fd, true);
}

bool Server::answer(Proxy& proxy, const Ask& ask) {
  Answer answer{.tag = ask.tag};
  Made made;
  if (!ask.count || ask.count > kMostAtOnce)
    answer.error = EINVAL;
  else if (ask.family != AF_INET && ask.family != AF_INET6)
    answer.error = EAFNOSUPPORT;
  else
    answer.error = namespaces_.within(
        ask.netns_cookie, [&] { made = make_upstreams(marks_, ask.family, ask.count); });
  if (!answer.error) answer.error = made.error;
  answer.count = made.sockets.size();
  const Answer without{.tag = ask.tag, .error = EAGAIN};
  return proxy.peer.answer(bytes_of(answer), made.sockets, bytes_of(without));
}

void Server::drop_proxy(int fd, const char* why) {
  const auto at = proxies_.find(fd);
  log::info("proxy", {{"generation", at->second.generation}, {"end", why}});
  proxies_.erase(at);
  done_ = done_ || (orphan_ && proxies_.empty());
}

}  // namespace weft::sockets
