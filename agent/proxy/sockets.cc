#include "agent/proxy/sockets.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/proxy/channel.h"
#include "agent/sockets/datagram.h"
#include "mesh/base/log.h"

namespace weft::proxy {
namespace {

using sockets::ControlAnswer;
using sockets::Order;

std::string text_of(const char* address, int error) {
  if (!error) return "";
  return std::string(address) +
         ":15001: " + (error == EADDRINUSE ? "somebody listens there" : std::strerror(error)) +
         "; ";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Sockets>> Sockets::start(boost::asio::io_context& io,
                                                        const Program& program,
                                                        std::function<void(std::string)> died) {
  auto ends = make_ends(SOCK_SEQPACKET);
  if (!ends.ours) return absl::ErrnoToStatus(errno, "cannot make a socket for weft-sockets");
  const base::Fd cgroup(open(program.cgroup.c_str(), O_DIRECTORY | O_RDONLY | O_CLOEXEC));
  if (!cgroup) return absl::ErrnoToStatus(errno, "cannot open " + program.cgroup);
  Launch what;
  what.argv = {program.path};
  what.descriptors = {ends.theirs.get(), program.own_sockets_map};
  if (program.bypass_readers >= 0) what.descriptors.push_back(program.bypass_readers);
  what.cgroup = cgroup.get();
  auto process = launch(what);
  if (!process.ok()) return process.status();
  log::info("weft-sockets", {{"pid", process->pid}, {"state", "started"}});
  return std::unique_ptr<Sockets>(
      new Sockets(io, *std::move(process), std::move(ends.ours), std::move(died)));
}

Sockets::Sockets(boost::asio::io_context& io, Process process, base::Fd control,
                 std::function<void(std::string)> died)
    : process_(std::move(process)),
      control_(io, control.release()),
      end_(io, fcntl(process_.pidfd.get(), F_DUPFD_CLOEXEC, 0)),
      died_(std::move(died)) {
  wait_to_read();
  wait_for_end();
}

void Sockets::add(std::uint64_t cookie, int netns) {
  ask(Order::kAddNetns, cookie, 0, base::Fd(fcntl(netns, F_DUPFD_CLOEXEC, 0)),
      [cookie](const ControlAnswer& answer, auto) {
        if (answer.error)
          log::error("weft-sockets",
                     {{"netns_cookie", cookie}, {"error", std::strerror(answer.error)}});
      });
}

void Sockets::drop(std::uint64_t cookie) { ask(Order::kDropNetns, cookie, 0, {}, {}); }

void Sockets::listen(std::uint64_t cookie, std::function<void(Listening)> done) {
  ask(Order::kListen, cookie, 0, {},
      [done = std::move(done)](const ControlAnswer& answer, std::vector<base::Fd> descriptors) {
        Listening result;
        result.families = answer.listening;
        result.listeners = std::move(descriptors);
        result.error = answer.error ? std::string(std::strerror(answer.error)) + "; " : "";
        result.error += text_of("127.0.0.1", answer.error_v4) + text_of("[::1]", answer.error_v6);
        // A bit without its descriptor would be a capture without a listener.
        if (result.listeners.size() !=
            static_cast<std::size_t>(__builtin_popcount(result.families))) {
          result = {};
          result.error = "descriptors were lost on the way; ";
        }
        if (!result.error.empty()) result.error.resize(result.error.size() - 2);
        done(std::move(result));
      });
}

absl::StatusOr<base::Fd> Sockets::add_proxy(std::uint32_t generation) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends))
    return absl::ErrnoToStatus(errno, "cannot make a socket to weft-sockets");
  ask(Order::kAddProxy, 0, generation, base::Fd(ends[0]), {});
  return base::Fd(ends[1]);
}

void Sockets::ask(Order order, std::uint64_t cookie, std::uint64_t generation, base::Fd with,
                  Done done) {
  Request request;
  request.what.order = static_cast<std::uint32_t>(order);
  request.what.tag = ++last_tag_;
  request.what.netns_cookie = cookie;
  request.what.generation = generation;
  if (with) request.descriptors.push_back(std::move(with));
  if (done) answers_.emplace(last_tag_, std::move(done));
  requests_.push_back(std::move(request));
  if (!waiting_to_write_) write();
}

void Sockets::write() {
  while (!requests_.empty()) {
    const auto& [what, descriptors] = requests_.front();
    const int error =
        sockets::send_datagram(control_.native_handle(), sockets::bytes_of(what), descriptors);
    if (error == EAGAIN || error == ENOBUFS) return wait_to_write();
    requests_.pop_front();  // any other: it is dying, which its pidfd tells
  }
}

void Sockets::wait_to_write() {
  waiting_to_write_ = true;
  control_.async_wait(control_.wait_write, [this, alive = std::weak_ptr(alive_)](auto error) {
    if (error || alive.expired()) return;
    waiting_to_write_ = false;
    write();
  });
}

void Sockets::wait_to_read() {
  control_.async_wait(control_.wait_read, [this, alive = std::weak_ptr(alive_)](auto error) {
    if (error || alive.expired()) return;
    while (read_one())
      if (alive.expired()) return;
    if (!alive.expired() && control_.is_open()) wait_to_read();
  });
}

// Whether there may be more.
bool Sockets::read_one() {
  sockets::Datagram datagram;
  const int error = sockets::receive_datagram(control_.native_handle(), datagram);
  if (error == EAGAIN) return false;
  if (error) {
    boost::system::error_code ignored;
    control_.close(ignored);
    kill(process_, SIGKILL);  // without its word it is of no use
    return false;
  }
  ControlAnswer answer;
  if (!datagram.read(answer)) return true;
  if (auto done = answers_.extract(answer.tag))
    done.mapped()(answer, std::move(datagram.descriptors));
  return true;
}

void Sockets::wait_for_end() {
  end_.async_wait(end_.wait_read, [this, alive = std::weak_ptr(alive_)](auto error) {
    if (error || alive.expired()) return;
    const auto how = reap(process_);
    const auto died = std::move(died_);
    died(how);
  });
}

}  // namespace weft::proxy
