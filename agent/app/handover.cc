#include "agent/app/handover.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "agent/app/lock.h"
#include "agent/observe/admin_protocol.h"
#include "agent/observe/admin_server.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

using namespace std::chrono_literals;

constexpr int kAnswerSeconds = 10;
constexpr auto kPoll = 10ms;
// How long the successor has to take the lock that it was given.
constexpr auto kSuccessor = 30s;

absl::StatusOr<base::Fd> dial(const std::string& run_dir) {
  const std::string path = observe::AdminServer::socket_path(run_dir);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  base::Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit{kAnswerSeconds, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address))
    return absl::NotFoundError("no weftd answers at " + path + ": " + std::strerror(errno));
  return fd;
}

// One line of text, and the descriptor that came with it.
absl::StatusOr<std::pair<std::string, base::Fd>> receive(int socket) {
  std::string text;
  base::Fd passed;
  while (!text.ends_with('\n')) {
    char buffer[4096];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    iovec part{buffer, sizeof buffer};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const auto got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0)
      return absl::UnavailableError(std::string("the weftd that runs did not answer: ") +
                                    (got ? std::strerror(errno) : "it hung up"));
    text.append(buffer, static_cast<std::size_t>(got));
    for (auto* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
        passed = base::Fd(fd);
      }
    if (text.size() > 65536) return absl::DataLossError("the weftd that runs talks nonsense");
  }
  return std::pair(std::move(text), std::move(passed));
}

}  // namespace

absl::StatusOr<base::Fd> ask_for_handover(const std::string& run_dir) {
  auto fd = dial(run_dir);
  if (!fd.ok()) return fd.status();
  const std::string request = observe::handover_request();
  if (send(fd->get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    return absl::UnavailableError("the weftd that runs does not read its admin socket");
  auto answer = receive(fd->get());
  if (!answer.ok()) return answer.status();
  if (const auto refused = observe::refusal_in(answer->first); !refused.empty())
    return absl::FailedPreconditionError("the weftd that runs does not hand over: " + refused);
  return std::move(answer->second);
}

absl::StatusOr<base::Fd> wait_for_lock(const std::string& bpffs, std::chrono::milliseconds most,
                                       const std::function<bool()>& give_up) {
  const auto deadline = std::chrono::steady_clock::now() + most;
  for (;;) {
    auto lock = lock_bpffs(bpffs);
    if (lock.ok() || !absl::IsAlreadyExists(lock.status())) return lock;
    if (std::chrono::steady_clock::now() >= deadline)
      return absl::DeadlineExceededError(base::message_of(lock.status()));
    if (give_up()) return absl::CancelledError("a signal came first");
    std::this_thread::sleep_for(kPoll);
  }
}

absl::StatusOr<base::Fd> stand_by(const std::string& bpffs) {
  boost::asio::io_context io;
  boost::asio::signal_set signals(io, SIGTERM, SIGINT);
  boost::asio::steady_timer timer(io);
  absl::StatusOr<base::Fd> result = base::Fd();
  bool taken = false;  // the successor has it
  const auto give_up = std::chrono::steady_clock::now() + kSuccessor;
  signals.async_wait([&](auto error, int) {
    if (!error) io.stop();
  });
  std::function<void()> look = [&] {
    auto lock = lock_bpffs(bpffs);
    if (absl::IsAlreadyExists(lock.status())) {
      taken = true;
    } else if (!lock.ok() || taken || std::chrono::steady_clock::now() >= give_up) {
      result = std::move(lock);
      return io.stop();
    }
    lock = base::Fd();  // given back at once: it is the successor's
    timer.expires_after(taken ? 1000ms : 100ms);
    timer.async_wait([&](auto error) {
      if (!error) look();
    });
  };
  timer.expires_after(100ms);
  timer.async_wait([&](auto error) {
    if (!error) look();
  });
  io.run();
  return result;
}

}  // namespace weft::app
