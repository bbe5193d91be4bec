#include "userspace_proxy/net/control.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "mesh/base/log.h"
#include "mesh/model/workload.h"
#include "userspace_proxy/net/report.h"

namespace weft::net {
namespace {

constexpr std::uint64_t kBeatMs = 250;
constexpr std::size_t kMostUnsent = 16 << 20;  // weftd does not read: news are dropped, beats too

}  // namespace

Control::Control(Loop& loop, base::Fd channel, ConfigBuilder builder, Workers workers,
                 std::uint64_t* beat_ns)
    : loop_(loop),
      channel_(std::move(channel)),
      builder_(std::move(builder)),
      workers_(std::move(workers)),
      beat_ns_(beat_ns),
      beat_([this] { beat(); }),
      drain_timer_([this] {
        log::warning("drain",
                     {{"deadline", "over"}, {"connections", "those that are left end now"}});
        loop_.stop();
      }) {
  if (channel_) loop_.add(channel_.get(), EPOLLIN, *this);
  beat();
}

void Control::on_ready(std::uint32_t events) {
  if (events & EPOLLOUT) flush();
  if (channel_ && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read();
}

void Control::read() {
  std::array<char, 64 * 1024> bytes;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 64)> control;
  iovec vector{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const auto got = recvmsg(channel_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    log::warning("control", {{"weftd", "is gone"}, {"serving", "what it said last"}});
    loop_.remove(channel_.get());
    channel_ = base::Fd();
    return;
  }
  for (auto* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const auto count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      descriptors_.emplace_back(fd);
    }
  }
  frames_.append({bytes.data(), static_cast<std::size_t>(got)});
  while (true) {
    auto frame = frames_.next();
    if (!frame.ok() || !frame->has_value()) {
      if (!frame.ok()) log::error("control", {{"error", std::string(frame.status().message())}});
      if (!frame.ok()) channel_ = base::Fd();
      return;
    }
    weft::v1::ToProxy told;
    if (told.ParseFromArray((*frame)->data(), static_cast<int>((*frame)->size())))
      on_message(told);
    else
      log::error("control", {{"error", "a message cannot be read"}});
  }
}

void Control::on_message(const weft::v1::ToProxy& message) {
  switch (message.message_case()) {
    case weft::v1::ToProxy::kConfig:
      return apply(message.config());
    case weft::v1::ToProxy::kWorkload:
      return on_workload(message.workload());
    case weft::v1::ToProxy::kWorkloadGone:
      return workers_.each([cookie = message.workload_gone().netns_cookie()](Worker& worker) {
        worker.forget(cookie);
      });
    case weft::v1::ToProxy::kDrain:
      return drain(message.drain().deadline_ms());
    case weft::v1::ToProxy::kAsk:
      return answer(message.ask().number());
    case weft::v1::ToProxy::MESSAGE_NOT_SET:
      return;  // of a newer weftd
  }
}

void Control::apply(const weft::v1::Config& message) {
  weft::v1::FromProxy said;
  auto& applied = *said.mutable_applied();
  std::vector<std::string> rejected;
  const auto config = builder_.apply(message, rejected);
  applied.set_generation(message.generation());
  for (const auto& line : rejected) {
    log::error("config", {{"rejected", line}});
    applied.add_rejected(line);
  }
  // Told when every worker has it.
  auto left = std::make_shared<std::atomic<std::size_t>>(workers_.count);
  workers_.each([this, config, left, said](Worker& worker) {
    worker.apply(config);
    if (left->fetch_sub(1) == 1) tell(said);
  });
}

void Control::on_workload(const weft::v1::Workload& message) {
  auto caller = std::make_shared<Caller>();
  caller->netns_cookie = message.netns_cookie();
  caller->rules.namespace_name = message.namespace_name();
  for (const auto& [name, value] : message.labels()) caller->rules.labels[name] = value;
  caller->workload = message.workload().empty() ? message.name() : message.workload();
  caller->workload_namespace = message.namespace_name();
  const auto label = [&](const char* name) {
    const auto found = caller->rules.labels.find(name);
    return found == caller->rules.labels.end() ? std::string() : found->second;
  };
  caller->app = label("app");
  caller->version = label("version");
  if (!caller->workload.empty()) {
    caller->canonical_service = model::canonical_service(caller->rules.labels, caller->workload);
    caller->canonical_revision = model::canonical_revision(caller->rules.labels);
  }
  caller->host_network = message.host_network();
  // What is known of a workload may come after its listeners.
  if (!message.listeners())
    return workers_.each([caller](Worker& worker) { worker.rename(caller); });
  for (std::uint32_t i = 0; i < message.listeners() && !descriptors_.empty(); ++i) {
    auto listener = std::make_shared<base::Fd>(std::move(descriptors_.front()));
    descriptors_.pop_front();
    workers_.each([caller, listener](Worker& worker) {
      worker.listen(base::Fd(dup(listener->get())), caller);
    });
  }
}

void Control::answer(std::uint64_t number) {
  struct Gathering {
    std::mutex mutex;
    std::vector<Metrics> metrics;
  };
  auto gathering = std::make_shared<Gathering>();
  workers_.each([this, gathering, number, count = workers_.count](Worker& worker) {
    const std::lock_guard lock(gathering->mutex);
    worker.metrics().expire(worker.loop().now_ms());
    gathering->metrics.push_back(worker.metrics());
    if (gathering->metrics.size() < count) return;
    weft::v1::FromProxy said;
    *said.mutable_report() = report_of(gathering->metrics, number);
    tell(std::move(said));
  });
}

void Control::tell(weft::v1::FromProxy message) {
  loop_.post([this, message = std::move(message)] { send(message); });
}

void Control::send(const weft::v1::FromProxy& message) {
  if (!channel_ || out_.size() > kMostUnsent) return;
  if (!wire::append_frame(message, out_).ok()) return;
  flush();
}

void Control::flush() {
  while (!out_.empty()) {
    const auto sent = ::send(channel_.get(), out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) break;
    out_.erase(0, static_cast<std::size_t>(sent));
  }
  loop_.change(channel_.get(), EPOLLIN | (out_.empty() ? 0u : EPOLLOUT), *this);
}

// Every worker is asked, so that one that is stuck is noticed: no beat without all of their
// answers.
void Control::beat() {
  struct Sum {
    std::atomic<std::size_t> left;
    std::atomic<std::uint64_t> connections{0}, requests{0};
  };
  auto sum = std::make_shared<Sum>();
  sum->left = workers_.count;
  workers_.each([this, sum](Worker& worker) {
    sum->connections += worker.metrics().clients;
    sum->requests += worker.metrics().in_flight;
    if (sum->left.fetch_sub(1) != 1) return;
    weft::v1::FromProxy said;
    said.mutable_heartbeat()->set_connections(sum->connections);
    said.mutable_heartbeat()->set_requests(sum->requests);
    loop_.post([this, said = std::move(said)] {
      if (beat_ns_) __atomic_store_n(beat_ns_, Loop::clock_ns(), __ATOMIC_RELAXED);
      send(said);
      if (draining_ && !said.heartbeat().connections()) {
        weft::v1::FromProxy drained;
        drained.mutable_drained();
        send(drained);
        loop_.stop();
      }
    });
  });
  loop_.set(beat_, draining_ ? kBeatMs / 5 : kBeatMs);
}

void Control::drain(std::uint64_t deadline_ms) {
  const auto until = loop_.now_ms() + deadline_ms;
  if (draining_ && until >= drain_until_ms_) return;
  drain_until_ms_ = until;
  loop_.set(drain_timer_, deadline_ms);
  log::info("drain", {{"deadline_ms", deadline_ms}});
  if (std::exchange(draining_, true)) return;
  workers_.each([](Worker& worker) { worker.drain(); });
  loop_.set(beat_, 1);
}

}  // namespace weft::net
