#include "agent/bypass/trial.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>

namespace weft::bypass {
namespace {

struct Address {
  sockaddr_storage at{};
  socklen_t length = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&at); }
};

Address loopback(int family) {
  Address address;
  address.at.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET)
    reinterpret_cast<sockaddr_in&>(address.at).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  else
    reinterpret_cast<sockaddr_in6&>(address.at).sin6_addr = in6addr_loopback;
  address.length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  return address;
}

base::Fd bound_socket(int family) {
  base::Fd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto address = loopback(family);
  return fd && bind(fd.get(), address.get(), address.length) == 0 ? std::move(fd) : base::Fd();
}

void set_patience(const base::Fd& fd) {
  const timeval limit{.tv_sec = kPatience.count() / 1000, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

std::uint64_t cookie_of(const base::Fd& fd) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  getsockopt(fd.get(), SOL_SOCKET, SO_COOKIE, &cookie, &length);
  return cookie;
}

std::string quoted(std::string_view text) {
  return text.size() > 40 ? std::to_string(text.size()) + " bytes"
                          : "\"" + std::string(text) + "\"";
}

}  // namespace

bool Trial::expect(bool is_so, const std::string& otherwise) {
  if (over()) return false;
  if (!is_so) reason_ = otherwise;
  return is_so;
}

bool Trial::has(int family) const { return static_cast<bool>(bound_socket(family)); }

Connection Trial::connect(int family, bool quick) {
  Connection made;
  if (over()) return made;
  const auto listener = bound_socket(family);
  Address address{.length = sizeof(sockaddr_storage)};
  made.client = base::Fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int off = 0;
  if (!quick) setsockopt(made.client.get(), IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off);
  if (!listener || listen(listener.get(), 1) ||
      getsockname(listener.get(), address.get(), &address.length) ||
      ::connect(made.client.get(), address.get(), address.length)) {
    expect(false, std::string("no connection over loopback: ") + std::strerror(errno));
    return made;
  }
  set_patience(made.client);
  set_patience(listener);
  // What accept() would wait for, the third part of the handshake, may come with the first bytes.
  if (!quick) say(made.client, "A");
  made.server = base::Fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  expect(static_cast<bool>(made.server), "a connection over loopback was not accepted");
  set_patience(made.server);
  return made;
}

void Trial::say(const base::Fd& to, std::string_view text) {
  if (over()) return;
  const auto sent = send(to.get(), text.data(), text.size(), MSG_NOSIGNAL);
  expect(sent == static_cast<ssize_t>(text.size()),
         quoted(text) + " could not be sent: " + (sent < 0 ? std::strerror(errno) : "not whole"));
}

void Trial::expect_heard(const base::Fd& from, std::string_view text) {
  std::string heard;
  std::string piece(std::min<std::size_t>(text.size(), 256 << 10), '\0');
  while (!over() && heard.size() < text.size()) {
    const auto got =
        recv(from.get(), piece.data(), std::min(piece.size(), text.size() - heard.size()), 0);
    if (!expect(got > 0, "of " + quoted(text) + " came " + quoted(heard) + ", then " +
                             (got == 0 ? "the end" : std::strerror(errno))))
      return;
    heard.append(piece, 0, static_cast<std::size_t>(got));
  }
  expect(heard == text, quoted(text) + " was sent, " + quoted(heard) + " came");
}

void Trial::expect_end(const base::Fd& from) {
  if (over()) return;
  char byte;
  const auto got = recv(from.get(), &byte, 1, 0);
  expect(got == 0, std::string("instead of the stream's end came ") +
                       (got < 0 ? std::strerror(errno) : "a byte"));
}

int Trial::wait_for(const base::Fd& fd, int events) {
  if (over()) return 0;
  pollfd watched{fd.get(), static_cast<short>(events), 0};
  const int ready = poll(&watched, 1, static_cast<int>(kPatience.count()));
  expect(ready > 0, "poll() did not wake up");
  return watched.revents;
}

std::optional<kernel::BypassPair> Trial::pair_of(const Connection& connection) {
  const auto cookie = cookie_of(connection.client);
  const auto pairs = maps_.pairs();
  if (!pairs.ok()) return std::nullopt;
  for (const auto& pair : *pairs)
    if (pair.value.end[0].cookie == cookie) return pair;
  return std::nullopt;
}

weft_bypass_pair Trial::expect_pair(const Connection& connection) {
  if (over()) return {};
  const auto pair = pair_of(connection);
  expect(pair.has_value(), "two sockets over loopback were not paired");
  return pair ? pair->value : weft_bypass_pair{};
}

bool Trial::rest_until(std::chrono::steady_clock::time_point end) {
  usleep(200);
  return std::chrono::steady_clock::now() < end;
}

std::string noise(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  std::size_t at = 0;
  for (; at + 8 <= size; at += 8) {
    const auto word = random();
    std::memcpy(bytes.data() + at, &word, 8);
  }
  for (; at < size; ++at) bytes[at] = static_cast<char>(random());
  return bytes;
}

}  // namespace weft::bypass
