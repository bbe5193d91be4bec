#include "userspace_proxy/net/socket_hub.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "mesh/base/log.h"

namespace weft::net {
namespace {

struct Question {
  std::uint64_t netns_cookie;
  std::uint16_t family;
  std::uint16_t count;
  std::uint32_t tag;
};
struct Answered {
  std::uint32_t tag;
  std::uint16_t count;
  std::uint16_t error;
};
static_assert(sizeof(Question) == 16 && sizeof(Answered) == 8);

}  // namespace

SocketHub::SocketHub(Loop& loop, base::Fd channel) : loop_(loop), channel_(std::move(channel)) {
  loop_.add(channel_.get(), EPOLLIN, *this);
}

void SocketHub::ask(std::uint64_t netns_cookie, model::Family family, Loop& asker,
                    StockSockets::Answer answer) {
  loop_.post([this, netns_cookie, family, waiting = Waiting{&asker, std::move(answer)}] {
    send(netns_cookie, family, waiting);
  });
}

void SocketHub::pass(Waiting waiting, std::vector<base::Fd> sockets, int error) {
  auto shared = std::make_shared<std::vector<base::Fd>>(std::move(sockets));
  waiting.asker->post(
      [answer = std::move(waiting.answer), shared, error] { answer(std::move(*shared), error); });
}

void SocketHub::send(std::uint64_t netns_cookie, model::Family family, Waiting waiting) {
  const Question question{
      netns_cookie, static_cast<std::uint16_t>(family == model::Family::kIpv4 ? AF_INET : AF_INET6),
      StockSockets::kBatch, next_tag_++};
  if (!channel_) return pass(std::move(waiting), {}, ENOTCONN);
  if (::send(channel_.get(), &question, sizeof question, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
    return pass(std::move(waiting), {}, errno);
  waiting_.emplace(question.tag, std::move(waiting));
}

void SocketHub::on_ready(std::uint32_t) {
  while (channel_ && read_answer()) {
  }
}

bool SocketHub::read_answer() {
  Answered answered{};
  iovec vector{&answered, sizeof answered};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * StockSockets::kBatch)> control;
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const auto got = recvmsg(channel_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got != static_cast<ssize_t>(sizeof answered)) {
    give_up(got < 0 ? errno : ENOTCONN);
    return false;
  }
  std::vector<base::Fd> sockets;
  for (auto* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const auto count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      sockets.emplace_back(fd);
    }
  }
  const auto found = waiting_.find(answered.tag);
  if (found == waiting_.end()) return true;
  auto waiting = std::move(found->second);
  waiting_.erase(found);
  pass(std::move(waiting), std::move(sockets), answered.error);
  return true;
}

void SocketHub::give_up(int error) {
  log::error("sockets",
             {{"error", "weft-sockets is gone: no new connection to an endpoint can be made"}});
  loop_.remove(channel_.get());
  channel_ = base::Fd();
  for (auto& [tag, waiting] : std::exchange(waiting_, {})) pass(std::move(waiting), {}, error);
}

}  // namespace weft::net
