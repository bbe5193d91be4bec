#include "userspace_proxy/net/threads_fixture.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <chrono>
#include <cstring>

#include <absl/strings/match.h>

namespace weft::net {
namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

base::Fd connected(const Dialled& to) {
  base::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto address = loopback(to.port);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return base::Fd();
  const int one = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

}  // namespace

Door open_door(int flags) {
  Door door{base::Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0)), {}};
  auto address = loopback(0);
  socklen_t length = sizeof address;
  bind(door.fd.get(), reinterpret_cast<sockaddr*>(&address), length);
  listen(door.fd.get(), 1024);
  getsockname(door.fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  door.at = {*model::Address::parse("127.0.0.1"), ntohs(address.sin_port)};
  return door;
}

Conversation::Conversation(const Dialled& to) : fd_(connected(to)) {}

bool Conversation::say(std::string_view bytes) {
  return send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

std::string Conversation::hear() {
  std::size_t want = std::string::npos;
  for (;;) {
    if (want == std::string::npos)
      if (const auto end = buffer_.find("\r\n\r\n"); end != std::string::npos) {
        const auto length = field_of(buffer_.substr(0, end + 2), "content-length");
        want = end + 4 + (length.empty() ? 0 : std::stoul(length));
      }
    if (buffer_.size() >= want) break;
    char bytes[4096];
    const auto got = recv(fd_.get(), bytes, sizeof bytes, 0);
    if (got <= 0) return {};
    buffer_.append(bytes, static_cast<std::size_t>(got));
  }
  auto message = buffer_.substr(0, want);
  buffer_.erase(0, want);
  return message;
}

std::string field_of(const std::string& message, const std::string& name) {
  for (std::size_t at = message.find("\r\n"); at != std::string::npos;
       at = message.find("\r\n", at + 2)) {
    const std::string_view rest = std::string_view(message).substr(at + 2);
    if (rest.size() <= name.size() || rest[name.size()] != ':') continue;
    if (!absl::EqualsIgnoreCase({rest.data(), name.size()}, {name.data(), name.size()})) continue;
    const auto begin = rest.find_first_not_of(' ', name.size() + 1);
    return std::string(rest.substr(begin, rest.find("\r\n") - begin));
  }
  return {};
}

Echo::Echo(bool fails) : fails_(fails), door_(open_door()) {
  acceptor_ = std::thread([this] {
    for (;;) {
      base::Fd fd(accept4(door_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (stopping_ || !fd) return;
      ++connections_;
      peers_.emplace_back(
          [this, peer = std::move(fd)]() mutable { serve(Conversation(std::move(peer))); });
    }
  });
}

Echo::~Echo() {
  stopping_ = true;
  shutdown(door_.fd.get(), SHUT_RDWR);
  acceptor_.join();
  for (auto& peer : peers_) peer.join();
}

void Echo::serve(Conversation peer) {
  for (auto request = peer.hear(); !request.empty(); request = peer.hear()) {
    const auto body = field_of(request, "x-table");
    std::this_thread::yield();  // a table may be swapped while the request is under way
    const std::string line = fails_ ? "HTTP/1.1 503 No" : "HTTP/1.1 200 OK";
    if (!peer.say(line + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body))
      return;
  }
}

RunningProxy::RunningProxy(unsigned workers, const Dialled& serves) {
  int ends[2];
  socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
  channel_ = base::Fd(ends[0]);
  proxy_ = std::thread([this, workers, serves, theirs = base::Fd(ends[1])]() mutable {
    run(workers, serves, std::move(theirs));
  });
  reader_ = std::thread([this] { listen_to_it(); });
}

RunningProxy::~RunningProxy() {
  if (!heard_.drained) {
    weft::v1::ToProxy drain;
    drain.mutable_drain()->set_deadline_ms(1);
    tell(drain);
  }
  proxy_.join();
  reader_.join();
}

// As main() does it.
void RunningProxy::run(unsigned count, const Dialled& serves, base::Fd channel) {
  WorkerOptions options;
  options.assume = serves;
  Loop loop;
  std::vector<std::unique_ptr<Worker>> workers;
  Control* control = nullptr;
  for (unsigned i = 0; i < count; ++i)
    workers.push_back(std::make_unique<Worker>(
        options, [](Loop&) { return std::make_unique<OwnSockets>(); },
        [&](const Shares& shares, std::uint64_t from, std::uint64_t to, std::uint32_t) {
          weft::v1::FromProxy said;
          said.mutable_transition()->set_endpoint(shares.wanted_id);
          said.mutable_transition()->set_from(from);
          said.mutable_transition()->set_to(to);
          control->tell(std::move(said));
        },
        i + 1));
  const auto each = [&workers](const std::function<void(Worker&)>& task) {
    for (auto& worker : workers) worker->loop().post([task, of = worker.get()] { task(*of); });
  };
  std::vector<std::thread> threads;
  for (auto& worker : workers) threads.emplace_back([of = worker.get()] { of->run(); });
  Control controls(loop, std::move(channel), ConfigBuilder(std::nullopt, 0), {each, count});
  control = &controls;
  loop.run();
  each([](Worker& worker) { worker.loop().stop(); });
  for (auto& thread : threads) thread.join();
}

void RunningProxy::tell(const weft::v1::ToProxy& message, int descriptor) {
  std::string frame;
  if (!wire::append_frame(message, frame).ok()) return;
  iovec vector{frame.data(), frame.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  if (descriptor >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    auto* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(part), &descriptor, sizeof descriptor);
  }
  sendmsg(channel_.get(), &header, MSG_NOSIGNAL);
}

void RunningProxy::listen_to_it() {
  wire::FrameReader frames;
  char bytes[65536];
  for (;;) {
    const auto got = recv(channel_.get(), bytes, sizeof bytes, 0);
    if (got <= 0) return;
    frames.append({bytes, static_cast<std::size_t>(got)});
    for (auto frame = frames.next(); frame.ok() && *frame; frame = frames.next()) {
      weft::v1::FromProxy said;
      if (!said.ParseFromArray((*frame)->data(), static_cast<int>((*frame)->size()))) return;
      heard_.reports += said.has_report();
      heard_.beats += said.has_heartbeat();
      heard_.transitions += said.has_transition();
      if (said.has_drained()) heard_.drained = true;
      if (!said.has_applied()) continue;
      heard_.rejected += static_cast<unsigned>(said.applied().rejected_size());
      heard_.applied = said.applied().generation();
    }
  }
}

void RunningProxy::wait_for(const std::function<bool()>& so) const {
  while (!so()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace weft::net
