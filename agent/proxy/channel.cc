#include "agent/proxy/channel.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace weft::proxy {
namespace {

constexpr std::size_t kChunk = 64 * 1024;
constexpr std::size_t kMaxDescriptors = 16;  // of one message; a workload's listeners

// One control message with the descriptors.
struct Control {
  alignas(cmsghdr) char bytes[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};

  void attach(msghdr& message, const std::vector<base::Fd>& descriptors) {
    message.msg_control = bytes;
    message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    auto* place = CMSG_DATA(header);
    for (const auto& fd : descriptors) {
      const int number = fd.get();
      std::memcpy(place, &number, sizeof number);
      place += sizeof number;
    }
  }
};

}  // namespace

Ends make_ends(int type) {
  int fds[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds)) return {};
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return {base::Fd(fds[0]), base::Fd(fds[1])};
}

Channel::Channel(boost::asio::io_context& io, base::Fd socket, Events events)
    : socket_(io, socket.release()), events_(std::move(events)) {
  socket_.non_blocking(true);
  wait_to_read();
}

Channel::~Channel() = default;

void Channel::send(const google::protobuf::MessageLite& message,
                   const std::vector<int>& descriptors) {
  if (!socket_.is_open()) return;
  Frame frame;
  if (!wire::append_frame(message, frame.bytes).ok()) return socket_.close();
  for (const int fd : descriptors)
    if (frame.descriptors.size() < kMaxDescriptors)
      frame.descriptors.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  out_.push_back(std::move(frame));
  if (!waiting_to_write_) write_some();
}

void Channel::write_some() {
  while (!out_.empty())
    if (!write_front()) return wait_to_write();
}

// Whether the socket took all of it. A broken socket takes everything: the reading side tells.
bool Channel::write_front() {
  Frame& frame = out_.front();
  while (frame.sent < frame.bytes.size()) {
    iovec part{frame.bytes.data() + frame.sent, frame.bytes.size() - frame.sent};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    Control control;
    if (frame.sent == 0 && !frame.descriptors.empty()) control.attach(message, frame.descriptors);
    const auto sent = sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS)) return false;
    if (sent < 0) break;
    frame.sent += static_cast<std::size_t>(sent);
  }
  out_.pop_front();
  return true;
}

void Channel::wait_to_write() {
  waiting_to_write_ = true;
  socket_.async_wait(socket_.wait_write, [this, alive = std::weak_ptr(alive_)](auto error) {
    if (error || alive.expired()) return;
    waiting_to_write_ = false;
    write_some();
  });
}

void Channel::wait_to_read() {
  socket_.async_wait(socket_.wait_read, [this, alive = std::weak_ptr(alive_)](auto error) {
    if (!error && !alive.expired()) read_some();
  });
}

void Channel::read_some() {
  char chunk[kChunk];
  const auto length = recv(socket_.native_handle(), chunk, sizeof chunk, MSG_DONTWAIT);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) return wait_to_read();
  if (length <= 0) return close();
  in_.append({chunk, static_cast<std::size_t>(length)});
  const std::weak_ptr<int> alive = alive_;
  const bool whole = take_frames();
  if (alive.expired()) return;  // what was told ended it
  whole ? wait_to_read() : close();
}

bool Channel::take_frames() {
  const std::weak_ptr<int> alive = alive_;
  const auto received = events_.received;  // it may end this, and itself with it
  for (;;) {
    const auto message = in_.next();
    if (!message.ok()) return false;
    if (!*message) return true;
    if (received) received(**message);
    if (alive.expired()) return true;
  }
}

void Channel::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
  out_.clear();
  const auto closed = events_.closed;
  if (closed) closed();
}

}  // namespace weft::proxy
