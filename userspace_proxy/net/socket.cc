#include "userspace_proxy/net/socket.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace weft::net {

Socket::~Socket() { close(); }

std::uint32_t Socket::interest() const {
  return (wants_read_ ? EPOLLIN : 0u) | (wants_write_ ? EPOLLOUT : 0u);
}

bool Socket::open(base::Fd fd, bool writable_too) {
  fd_ = std::move(fd);
  wants_read_ = true;
  wants_write_ = writable_too;
  return loop_.add(fd_.get(), interest(), *this);
}

void Socket::close() {
  // Closing takes it out of the epoll set: nobody else has the descriptor.
  fd_ = base::Fd();
  std::string().swap(out_);
  out_at_ = 0;
}

void Socket::want(bool read, bool write) {
  if (!fd_ || (read == wants_read_ && write == wants_write_)) return;
  wants_read_ = read;
  wants_write_ = write;
  if (std::exchange(away_, false))
    loop_.add(fd_.get(), interest(), *this);
  else
    loop_.change(fd_.get(), interest(), *this);
}

void Socket::look_away() {
  if (!fd_ || std::exchange(away_, true)) return;
  loop_.remove(fd_.get());
}

ssize_t Socket::receive(char* into, std::size_t most) {
  ssize_t got;
  do got = recv(fd_.get(), into, most, 0);
  while (got < 0 && errno == EINTR);
  return got;
}

bool Socket::send(std::span<const std::string_view> pieces) {
  std::size_t total = 0, taken = 0;
  for (const auto piece : pieces) total += piece.size();
  if (!backlog()) {
    std::array<iovec, 64> vectors;
    std::size_t count = 0;
    for (const auto piece : pieces)
      if (!piece.empty() && count < vectors.size())
        vectors[count++] = {const_cast<char*>(piece.data()), piece.size()};
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = count;
    ssize_t sent;
    do sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN) return false;
    taken = sent > 0 ? static_cast<std::size_t>(sent) : 0;
    if (taken == total) return true;
  }
  for (auto piece : pieces) {
    const auto skip = std::min(taken, piece.size());
    taken -= skip;
    out_.append(piece.substr(skip));
  }
  want_write(true);
  return true;
}

Socket::Flushed Socket::flush() {
  while (backlog()) {
    const auto sent = ::send(fd_.get(), out_.data() + out_at_, backlog(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN ? Flushed::kSome : Flushed::kBroken;
    out_at_ += static_cast<std::size_t>(sent);
  }
  std::string().swap(out_);  // most connections never need it again
  out_at_ = 0;
  want_write(false);
  return Flushed::kAll;
}

void Socket::on_ready(std::uint32_t events) {
  if (!fd_) return;
  if (events & EPOLLOUT) on_writable();
  if (!fd_) return;
  if (events & EPOLLIN && wants_read_)
    on_readable();
  else if (events & (EPOLLERR | EPOLLHUP))
    wants_read_ ? on_readable() : on_broken();
}

}  // namespace weft::net
