#include "agent/observe/admin_server.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <list>
#include <mutex>
#include <optional>
#include <thread>

#include "agent/observe/admin_protocol.h"
#include "mesh/base/fd.h"
#include "mesh/base/text.h"

namespace weft::observe {
namespace {

namespace asio = boost::asio;
using Local = asio::local::stream_protocol;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

std::optional<ucred> peer_of(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size)) return std::nullopt;
  return peer;
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

// Of whoever listens on the socket; nothing where nobody does.
std::optional<pid_t> listener_of(const std::string& path) {
  const base::Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = address_of(path);
  // EAGAIN: its queue is full, so it is there.
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) &&
      errno != EAGAIN)
    return std::nullopt;
  const auto peer = peer_of(fd.get());
  return peer ? peer->pid : 0;
}

// In one go: the answer is a line, and a socket's buffer is larger.
bool send_with(int socket, const std::string& text, int descriptor) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptor)] = {};
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    auto* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

absl::Status run_dir_error(const std::string& run_dir, const std::string& what) {
  return absl::ErrnoToStatus(errno, "--run-dir " + run_dir + ": " + what);
}

absl::Status taken(const std::string& run_dir) {
  const auto pid = listener_of(AdminServer::socket_path(run_dir));
  return absl::AlreadyExistsError("another weftd" +
                                  (pid && *pid ? " (pid " + std::to_string(*pid) + ")" : "") +
                                  " runs with this --run-dir (" + run_dir + ")");
}

// Held while the agent lives, given back by the kernel when it dies, however it dies.
absl::StatusOr<base::Fd> lock(const std::string& run_dir) {
  std::error_code error;
  std::filesystem::create_directories(run_dir, error);
  base::Fd dir(open(run_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return run_dir_error(run_dir, "cannot use this directory");
  if (flock(dir.get(), LOCK_EX | LOCK_NB) == 0 && !listener_of(AdminServer::socket_path(run_dir)))
    return dir;
  return taken(run_dir);
}

// Bound under another name and renamed when it has its mode and listens: nobody meets it half made,
// and a dead agent's socket is replaced in one step.
absl::StatusOr<base::Fd> listen_on(const std::string& run_dir) {
  const std::string path = AdminServer::socket_path(run_dir), temporary = path + ".new";
  if (temporary.size() >= sizeof(sockaddr_un::sun_path)) {
    errno = ENAMETOOLONG;
    return run_dir_error(run_dir, "too long for the path of a Unix socket; give a shorter one");
  }
  unlink(temporary.c_str());
  base::Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(temporary);
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ||
      chmod(temporary.c_str(), 0660) || listen(fd.get(), 64) ||
      rename(temporary.c_str(), path.c_str()))
    return run_dir_error(run_dir, "cannot make the socket " + path);
  return fd;
}

// What a handler's answer goes through: answers may come from any thread and at any time, also when
// the server is gone.
struct Gate {
  std::mutex mutex;
  asio::io_context* io = nullptr;  // null: closed

  void post(std::function<void()> work) {
    const std::lock_guard lock(mutex);
    if (io) asio::post(*io, std::move(work));
  }
};

// One client. The timer closes the socket, which ends whatever waits for it.
struct Client : std::enable_shared_from_this<Client> {
  explicit Client(Local::socket s) : socket(std::move(s)), timer(socket.get_executor()) {}

  Local::socket socket;
  asio::steady_timer timer;

  void expires_after(std::chrono::milliseconds time) {
    timer.expires_after(time);
    timer.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto client = weak.lock();
      boost::system::error_code ignored;
      if (!error && client) client->socket.close(ignored);
    });
  }
};

// An answer on its way from the control thread.
struct Pending {
  explicit Pending(asio::any_io_executor executor) : arrived(std::move(executor)) {}
  asio::steady_timer arrived;  // cancelled when it is there
  std::optional<std::string> reply;
};

}  // namespace

struct AdminServer::State {
  State(const AdminOptions& o, const Board& b, AdminHandlers h)
      : options(o), board(b), handlers(std::move(h)) {}

  AdminOptions options;
  const Board& board;
  AdminHandlers handlers;
  base::Fd run_dir;
  asio::io_context io{1};
  Local::acceptor acceptor{io};
  asio::steady_timer room{io};  // cancelled when a client has gone
  std::size_t clients = 0;
  std::shared_ptr<Gate> gate = std::make_shared<Gate>();
  std::thread thread;

  asio::awaitable<void> listen() {
    for (;;) {
      while (clients >= options.max_clients) {
        room.expires_at(asio::steady_timer::time_point::max());
        co_await room.async_wait(kAwait);
      }
      auto [error, socket] = co_await acceptor.async_accept(kAwait);
      if (error) {  // no descriptors left, say: not a reason to spin
        room.expires_after(std::chrono::milliseconds(100));
        co_await room.async_wait(kAwait);
        continue;
      }
      ++clients;
      asio::co_spawn(io, serve(std::move(socket)), [this](std::exception_ptr) {
        --clients;
        room.cancel();
      });
    }
  }

  asio::awaitable<void> serve(Local::socket socket) {
    const auto client = std::make_shared<Client>(std::move(socket));
    client->expires_after(std::min(options.request_timeout, options.timeout));
    std::string text;
    const auto [error, size] = co_await asio::async_read_until(
        client->socket, asio::dynamic_buffer(text, kMaxAdminRequest), '\n', kAwait);
    const bool whole = !error || (error == asio::error::eof && !text.empty());
    const bool too_long = error == asio::error::not_found;
    if (!whole && !too_long) co_return;
    client->timer.cancel();  // what follows has a limit of its own
    Reply reply;
    if (too_long)
      reply.text =
          error_reply("the request is longer than " + std::to_string(kMaxAdminRequest) + " bytes");
    else
      reply = co_await reply_to(client->socket.native_handle(),
                                std::string_view(text).substr(0, text.find('\n')));
    client->expires_after(options.timeout);
    if (reply.handover) {
      // Whoever does not take the answer has not taken over.
      if (send_with(client->socket.native_handle(), reply.text, reply.descriptor))
        handlers.handed_over();
    } else {
      co_await asio::async_write(client->socket, asio::buffer(reply.text), kAwait);
    }
    co_await see_off(*client);
  }

  // Closing with unread bytes would take the answer with it.
  asio::awaitable<void> see_off(Client& client) {
    boost::system::error_code ignored;
    client.socket.shutdown(Local::socket::shutdown_send, ignored);
    std::array<char, 4096> scratch;
    for (std::size_t total = 0; total < 16 * kMaxAdminRequest;) {
      const auto [error, size] =
          co_await client.socket.async_read_some(asio::buffer(scratch), kAwait);
      if (error) break;
      total += size;
    }
    client.timer.cancel();
  }

  // Whoever answers calls what it is given, once.
  using Question = std::function<void(std::function<void(std::string)>)>;
  const Question audit_question = [this](auto done) {
    handlers.audit([done](absl::StatusOr<std::vector<std::string>> differences) {
      done(differences.ok() ? audit_reply(*differences)
                            : error_reply(base::message_of(differences.status())));
    });
  };
  const Question confirm_question = [this](auto done) {
    handlers.confirm([done](absl::Status status) {
      done(status.ok() ? confirm_reply() : error_reply(base::message_of(status)));
    });
  };

  const Question proxy_question = [this](auto done) {
    handlers.proxy_reload([done](absl::Status status) {
      done(status.ok() ? proxy_reply() : error_reply(base::message_of(status)));
    });
  };

  struct Reply {
    std::string text;
    bool handover = false;
    int descriptor = -1;
  };

  asio::awaitable<Reply> reply_to(int socket, std::string_view text) {
    const auto request = parse_request(text);
    if (!request.ok()) co_return Reply{error_reply(base::message_of(request.status()))};
    const auto peer = peer_of(socket);
    if (changes_something(request->command) && (!peer || peer->uid != 0))
      co_return Reply{error_reply("this request is for root only")};
    Reply reply;
    if (request->command == AdminCommand::kHandover)
      reply = co_await hand_over();
    else
      reply.text = co_await answer_to(*request);
    co_return reply;
  }

  asio::awaitable<Reply> hand_over() {
    const auto listener = std::make_shared<std::optional<int>>();
    Reply reply;
    // Named: GCC 12 destroys the captures of a lambda inside a co_await expression twice.
    const Question question = [this, listener](auto done) {
      handlers.handover([done, listener](absl::StatusOr<int> fd) {
        if (fd.ok()) *listener = *fd;
        done(fd.ok() ? handover_reply(*fd >= 0) : error_reply(base::message_of(fd.status())));
      });
    };
    reply.text = co_await asked(question);
    reply.handover = refusal_in(reply.text).empty();
    reply.descriptor = reply.handover ? listener->value_or(-1) : -1;
    co_return reply;
  }

  // Rules are compiled here and not on the control thread, which is asked for the caller only.
  asio::awaitable<std::string> explain(const AdminRequest& request) {
    const auto caller = std::make_shared<std::optional<routes::Caller>>();
    const Question question = [this, caller, cookie = request.route.netns_cookie](auto done) {
      handlers.caller(cookie, [done, caller](routes::Caller known) {
        *caller = std::move(known);
        done("");
      });
    };
    if (auto late = co_await asked(question); !late.empty()) co_return late;
    co_return explain_reply(*board.read(), request.service, request.route, **caller);
  }

  asio::awaitable<std::string> answer_to(const AdminRequest& request) {
    switch (request.command) {
      case AdminCommand::kHandover:
        break;  // not answered by text alone
      case AdminCommand::kStatus:
        co_return status_reply(*board.read(), getpid(), Clock::now());
      case AdminCommand::kService:
        co_return service_reply(*board.read(), request.service);
      case AdminCommand::kWorkloads:
        co_return workloads_reply(*board.read());
      case AdminCommand::kHealth:
        co_return health_reply(*board.read());
      case AdminCommand::kRoutes:
        co_return routes_reply(*board.read(), request.service);
      case AdminCommand::kExplain:
        co_return co_await explain(request);
      case AdminCommand::kAudit:
        co_return co_await asked(audit_question);
      case AdminCommand::kConfirm:
        co_return co_await asked(confirm_question);
      case AdminCommand::kProxyReload:
        co_return co_await asked(proxy_question);
      case AdminCommand::kBreaker: {
        const Question question = [this, order = request.breaker](auto done) {
          handlers.breaker(order, [done](absl::StatusOr<std::vector<BreakerEvent>> events) {
            done(events.ok() ? events_reply(*events, 0)
                             : error_reply(base::message_of(events.status())));
          });
        };
        co_return co_await asked(question);
      }
      case AdminCommand::kEvents: {
        const Question question = [this, after = request.after](auto done) {
          handlers.events(after, [done](std::vector<BreakerEvent> events, std::uint64_t last) {
            done(events_reply(events, last));
          });
        };
        co_return co_await asked(question);
      }
    }
    co_return error_reply("unknown command");
  }

  // Waits for what the control thread says, without a thread.
  asio::awaitable<std::string> asked(const Question& question) {
    const auto pending = std::make_shared<Pending>(io.get_executor());
    pending->arrived.expires_after(options.timeout);
    question([gate = gate, weak = std::weak_ptr(pending)](std::string reply) {
      gate->post([weak, reply = std::move(reply)]() mutable {
        const auto waiting = weak.lock();
        if (!waiting) return;
        waiting->reply = std::move(reply);
        waiting->arrived.cancel();
      });
    });
    co_await pending->arrived.async_wait(kAwait);
    co_return pending->reply
        ? *std::move(pending->reply)
        : error_reply("the control thread did not answer in time; see the log");
  }
};

AdminServer::AdminServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

AdminServer::~AdminServer() {
  {
    const std::lock_guard lock(state_->gate->mutex);
    state_->gate->io = nullptr;
  }
  state_->io.stop();
  state_->thread.join();
  // While the lock on the directory is held: the socket is still our own.
  unlink(socket_path(state_->options.run_dir).c_str());
}

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::start(const AdminOptions& options,
                                                                const Board& board,
                                                                AdminHandlers handlers) {
  auto state = std::make_unique<State>(options, board, std::move(handlers));
  auto run_dir = lock(options.run_dir);
  if (!run_dir.ok()) return run_dir.status();
  auto fd = listen_on(options.run_dir);
  if (!fd.ok()) return fd.status();
  state->run_dir = *std::move(run_dir);
  boost::system::error_code error;
  state->acceptor.assign(Local(), fd->release(), error);
  if (error) return absl::InternalError("cannot serve the admin socket: " + error.message());
  state->gate->io = &state->io;
  asio::co_spawn(state->io, state->listen(), [](std::exception_ptr) {});
  state->thread = std::thread([&io = state->io] { io.run(); });
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(state)));
}

}  // namespace weft::observe
