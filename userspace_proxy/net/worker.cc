#include "userspace_proxy/net/worker.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "userspace_proxy/net/origin.h"

namespace weft::net {
namespace {

constexpr int kAcceptsARound = 64;
constexpr std::size_t kMostShadows = 1024;  // mirrored requests under way
constexpr std::size_t kSpareStreams = 256;
constexpr std::uint64_t kLogFlushMs = 500;
// Nobody tells when a socket of the kernel's or another generation's connection makes room.
constexpr std::uint64_t kLookForRoomMs = 50;
constexpr std::uint64_t kLateMs = 1000;  // from a connect() to its accept()
// A client that has just connected is about to send its request, and nobody tries that again for
// it; one that said nothing for so long is not.
constexpr std::uint64_t kSilentMs = 1000;
constexpr int kLooksForRoom = 16;

}  // namespace

void Gather::begin(Stream& stream) {
  clear();
  client_ = stream.client();
}

void Gather::add(std::string_view piece) { pieces_.push_back({piece, 0, 0}); }

std::string& Gather::text() { return text_; }

void Gather::add_text(std::size_t from) {
  // Neighbours become one piece.
  if (!pieces_.empty() && !pieces_.back().view.data() &&
      pieces_.back().from + pieces_.back().size == from)
    pieces_.back().size += text_.size() - from;
  else
    pieces_.push_back({{}, from, text_.size() - from});
}

void Gather::end() {
  if (!client_ || pieces_.empty()) return clear();
  std::array<std::string_view, 64> views;
  auto* client = client_;
  client_ = nullptr;  // what it leads to is no part of this
  for (std::size_t at = 0; at < pieces_.size();) {
    std::size_t count = 0;
    for (; at < pieces_.size() && count < views.size(); ++at) {
      const auto& piece = pieces_[at];
      views[count++] =
          piece.view.data() ? piece.view : std::string_view(text_).substr(piece.from, piece.size);
    }
    client->write({views.data(), count});
  }
  clear();
}

void Gather::clear() {
  client_ = nullptr;
  pieces_.clear();
  text_.clear();
}

// A listening socket in a workload's network namespace.
class Worker::Listener final : public Loop::Watcher {
 public:
  Listener(Worker& worker, base::Fd fd, CallerPtr caller)
      : worker_(worker),
        fd_(std::move(fd)),
        caller_(std::move(caller)),
        retry_([this] { watch(); }) {
    watch();
  }
  void on_ready(std::uint32_t) override { worker_.accept_from(*this); }
  int fd() const { return fd_.get(); }
  const CallerPtr& caller() const { return caller_; }
  void rename(CallerPtr caller) { caller_ = std::move(caller); }
  // No more wake-ups. Closing alone would not do: weftd and the next generation have the same
  // socket, and a poll that is registered lives as long as that does.
  void look_away() {
    if (fd_) worker_.loop().remove(fd_.get());
  }
  void stop() {
    look_away();
    fd_ = base::Fd();
  }
  // Without descriptors accepting fails at once, again and again: better to look away for a while.
  void pause() {
    worker_.loop().remove(fd_.get());
    worker_.loop().set(retry_, 50);
  }

 private:
  void watch() {
    if (fd_) worker_.loop().add(fd_.get(), EPOLLIN | EPOLLEXCLUSIVE, *this);
  }

  Worker& worker_;
  base::Fd fd_;
  CallerPtr caller_;
  Timer retry_;
};

Worker::Worker(const WorkerOptions& options,
               std::function<std::unique_ptr<SocketSource>(Loop&)> sockets, Tell tell,
               std::uint64_t seed)
    : options_(options),
      sockets_(sockets(loop_)),
      breaker_(std::move(tell)),
      random_(seed),
      log_(options.log_fd, options.log_format, options.log_every),
      log_timer_([this] {
        log_.flush();
        loop_.set(log_timer_, kLogFlushMs);
      }),
      queue_timer_([this] {
        queue_.serve_all();
        if (!queue_.is_empty()) loop_.set(queue_timer_, kLookForRoomMs);
      }) {
  if (options_.log_every) loop_.set(log_timer_, kLogFlushMs);
}

Worker::~Worker() = default;

// Services and clusters that did not change are the same pointers: what was resolved for them stays
// as it is.
void Worker::apply(ConfigPtr config) {
  std::map<std::string, std::shared_ptr<LocalCluster>> clusters;
  for (const auto& [name, cluster] : config->clusters) {
    const auto known = clusters_.find(name);
    clusters[name] = known != clusters_.end() && known->second->pointer() == cluster
                         ? known->second
                         : std::make_shared<LocalCluster>(cluster);
  }
  absl::flat_hash_map<const Service*, std::shared_ptr<LocalService>> services;
  for (const auto& [dialled, service] : config->services) {
    auto& local = services[service.get()];
    if (local) continue;
    local = std::make_shared<LocalService>();
    local->config = service;
    for (const auto& name : service->clusters) {
      const auto found = clusters.find(name);
      local->clusters.push_back(found == clusters.end() ? nullptr : found->second);
    }
  }
  keep_for_late_comers(*config);
  clusters_ = std::move(clusters);
  services_ = std::move(services);
  config_ = std::move(config);
  ++epoch_;
  absl::flat_hash_map<const Shares*, const Cluster*> wanted;
  for (const auto& [name, cluster] : config_->clusters)
    for (const auto& endpoint : cluster->endpoints) wanted[endpoint.shares.get()] = cluster.get();
  std::vector<PoolKey> unwanted;
  for (auto& [key, pool] : pools_) {
    const auto found = wanted.find(key.endpoint);
    if (found != wanted.end())
      pool->adopt(*found->second);
    else
      unwanted.push_back(key);
  }
  retire(unwanted);
  for (const auto& [name, cluster] : config_->clusters) metrics_.hold(cluster->who);
}

void Worker::retire(const std::vector<PoolKey>& keys) {
  for (const auto& key : keys) {
    auto node = pools_.extract(key);
    node.mapped()->retire();
    retired_.push_back(std::move(node.mapped()));
  }
  std::erase_if(retired_, [](const auto& pool) { return pool->size() == 0; });
}

// Services that the next configuration does not have.
void Worker::keep_for_late_comers(const Config& next) {
  const auto now = loop_.now_ms();
  absl::erase_if(gone_, [&](const auto& entry) { return entry.second.until_ms <= now; });
  for (const auto& [dialled, config] : config_->services)
    if (!next.services.contains(dialled))
      if (auto known = service(dialled)) gone_[dialled] = {std::move(known), now + kLateMs};
}

std::shared_ptr<LocalService> Worker::service_that_went(const Dialled& dialled) {
  const auto found = gone_.find(dialled);
  return found != gone_.end() && loop_.now_ms() < found->second.until_ms ? found->second.service
                                                                         : nullptr;
}

void Worker::listen(base::Fd listener, CallerPtr caller) {
  metrics_.hold(caller);
  listeners_.push_back(std::make_unique<Listener>(*this, std::move(listener), std::move(caller)));
}

void Worker::rename(const CallerPtr& caller) {
  metrics_.hold(caller);
  for (auto& listener : listeners_)
    if (listener->caller()->netns_cookie == caller->netns_cookie) listener->rename(caller);
}

void Worker::forget(std::uint64_t netns_cookie) {
  for (auto& listener : listeners_) {
    if (listener->caller()->netns_cookie != netns_cookie) continue;
    listener->stop();
    loop_.bury(std::move(listener));
  }
  std::erase_if(listeners_, [](const auto& listener) { return !listener; });
  sockets_->forget(netns_cookie);
  // Connections of the workload are held open by their peers, who are gone with it; idle ones of
  // pools are ours. The workload may come back: then it has pools of its own again.
  std::vector<PoolKey> unwanted;
  for (const auto& [key, pool] : pools_)
    if (pool->netns_cookie() == netns_cookie && netns_cookie) unwanted.push_back(key);
  retire(unwanted);
}

void Worker::drain() {
  draining_ = true;
  for (auto& listener : listeners_) {
    // A wake-up goes to one of those who listen: what this one was woken for nobody else looks at.
    listener->look_away();
    while (accept_from(*listener)) continue;
    listener->stop();
    loop_.bury(std::move(listener));
  }
  listeners_.clear();
  std::vector<Client*> clients;
  for (const auto& client : clients_) clients.push_back(client.get());
  for (auto* client : clients) client->drain();
}

WaitingLink* Worker::longest_waiting() {
  auto* idle = idle_.oldest();
  auto* silent = silent_.oldest();
  if (silent && silent->since_ms() + kSilentMs > loop_.now_ms()) silent = nullptr;
  if (!idle || !silent) return idle ? idle : silent;
  return idle->since_ms() <= silent->since_ms() ? idle : silent;
}

// Whoever waits for its client's next request loses nothing but the connection, and a client that
// keeps connections expects that; whoever calls anew would be turned away.
bool Worker::make_room() {
  for (int i = 0; i < kLooksForRoom; ++i) {
    auto* link = longest_waiting();
    if (!link) return false;
    auto& client = static_cast<Client&>(*link);
    if (client.has_unread()) {
      client.leave();
      continue;
    }
    ++metrics_.shed;
    remove(client);
    return true;
  }
  return false;
}

bool Worker::accept_from(Listener& listener) {
  bool made_room = false;
  for (int i = 0; i < kAcceptsARound && listener.fd() >= 0; ++i) {
    base::Fd fd(accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      const bool no_descriptor = errno == EMFILE || errno == ENFILE;
      // Once for each that is accepted: where the room goes elsewhere, nobody is to be closed for
      // it.
      if (no_descriptor && !made_room && (made_room = make_room())) continue;
      if (no_descriptor || errno == ENOBUFS || errno == ENOMEM) {
        ++metrics_.accept_failed;
        listener.pause();
      }
      return false;
    }
    made_room = false;
    admit(std::move(fd), listener);
  }
  return listener.fd() >= 0;
}

void Worker::admit(base::Fd fd, const Listener& listener) {
  ++metrics_.accepted;
  if (clients_.size() >= options_.max_clients && !make_room()) {
    ++metrics_.refused_full;
    return;
  }
  std::optional<Origin> origin;
  if (options_.assume)
    origin = Origin{*options_.assume, listener.caller()->netns_cookie};
  else
    origin = origin_of(fd.get(), *listener.caller());
  if (!origin) {  // nobody captured it
    ++metrics_.without_origin;
    return;
  }
  const int one = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  auto& client = *clients_.emplace_back(
      std::make_unique<Client>(*this, origin->dialled, listener.caller(), origin->owner));
  client.place_ = static_cast<std::uint32_t>(clients_.size() - 1);
  metrics_.clients = clients_.size();
  client.start(std::move(fd));
}

void Worker::remove(Client& client) {
  if (client.removed_) return;
  client.removed_ = true;
  client.close_now();
  const auto place = client.place_;
  auto gone = std::move(clients_[place]);
  if (place + 1 != clients_.size()) {
    clients_[place] = std::move(clients_.back());
    clients_[place]->place_ = place;
  }
  clients_.pop_back();
  metrics_.clients = clients_.size();
  loop_.bury(std::move(gone));
}

void Worker::mirror(const Client& of, std::shared_ptr<LocalService> service,
                    std::shared_ptr<LocalCluster> cluster, std::string request, bool head_only) {
  if (shadows_.size() >= kMostShadows) {
    ++metrics_.mirrors_dropped;
    return;
  }
  auto& shadow = *shadows_.emplace_back(
      std::make_unique<Client>(*this, of.dialled(), of.caller(), of.pool_owner()));
  shadow.place_ = static_cast<std::uint32_t>(shadows_.size() - 1);
  shadow.start_shadow(std::move(service), std::move(cluster), std::move(request), head_only);
}

void Worker::remove_shadow(Client& client) {
  if (std::exchange(client.removed_, true)) return;
  const auto place = client.place_;
  auto gone = std::move(shadows_[place]);
  if (place + 1 != shadows_.size()) {
    shadows_[place] = std::move(shadows_.back());
    shadows_[place]->place_ = place;
  }
  shadows_.pop_back();
  loop_.bury(std::move(gone));
}

std::shared_ptr<LocalService> Worker::service(const Dialled& dialled) {
  const auto found = config_->services.find(dialled);
  if (found == config_->services.end()) return nullptr;
  const auto local = services_.find(found->second.get());
  return local == services_.end() || local->second->clusters.empty() || !local->second->clusters[0]
             ? nullptr
             : local->second;
}

Pool& Worker::pool_of(const Cluster& cluster, const Endpoint& endpoint, const Client& client) {
  const PoolKey key{endpoint.shares.get(), cluster.node_source ? 0 : client.pool_owner()};
  auto& pool = pools_[key];
  if (!pool) {
    const auto netns = cluster.node_source ? 0 : client.caller()->netns_cookie;
    pool = std::make_unique<Pool>(*this, cluster, endpoint, client.caller(), netns);
    pool->owner_count = &upstreams_of(key.owner);
  }
  return *pool;
}

// A connection that nobody uses makes room for one that somebody wants.
bool Worker::has_room_for(const Pool& pool) {
  if (*pool.owner_count >= options_.max_upstreams_per_caller) return false;
  if (metrics_.upstreams < options_.max_upstreams) return true;
  auto* longest = idle_upstreams_.oldest();
  if (!longest) return false;
  static_cast<Upstream*>(longest)->abandon();
  return true;
}

Upstream* Worker::connection(const Cluster& cluster, const Endpoint& endpoint, const Client& client,
                             bool fresh, Room& room) {
  auto& pool = pool_of(cluster, endpoint, client);
  room = Room::kYes;
  if (!fresh && pool.has_idle()) return &pool.take_idle();
  if (!has_room_for(pool)) {
    room = Room::kProxyFull;
    return nullptr;
  }
  Place place;
  room = place.take(endpoint.shares);
  // An idle one that this request has no use for is in its way.
  if (room != Room::kYes && close_idle(*endpoint.shares, room)) room = place.take(endpoint.shares);
  return room == Room::kYes ? &pool.add(std::move(place)) : nullptr;
}

bool Worker::close_idle(const Shares& wanted, Room full) {
  for (auto& [key, pool] : pools_) {
    const auto& shares = *pool->endpoint().shares;
    const bool in_the_way =
        full == Room::kServiceFull ? shares.total == wanted.total : &shares == &wanted;
    if (!in_the_way || !pool->has_idle()) continue;
    pool->close_idle();
    return true;
  }
  return false;
}

void Worker::wait(Stream& stream, Queue::Ticket& ticket, const SharesPtr& shares,
                  const ClusterCounts& cluster, Room full) {
  queue_.add(stream, ticket, shares, cluster);
  if (!queue_timer_.armed()) loop_.set(queue_timer_, kLookForRoomMs);
  each_worker_([shares, full](Worker& worker) { worker.close_idle(*shares, full); });
}

// Not at once: whoever tells is in the middle of something.
void Worker::room_came(const Shares& shares) {
  if (!Queue::somebody_waits(shares)) return;
  each_worker_([service = shares.total](Worker& worker) { worker.queue_.serve(service); });
}

std::uint32_t& Worker::upstreams_of(std::uint64_t owner) {
  auto& count = upstreams_of_[owner];
  if (!count) count = std::make_unique<std::uint32_t>(0);
  return *count;
}

std::unique_ptr<Stream> Worker::new_stream() {
  if (spare_streams_.empty()) return std::make_unique<Stream>(*this);
  auto stream = std::move(spare_streams_.back());
  spare_streams_.pop_back();
  return stream;
}

void Worker::recycle(std::unique_ptr<Stream> stream) {
  if (!stream) return;
  stream->reset();
  if (spare_streams_.size() < kSpareStreams) spare_streams_.push_back(std::move(stream));
}

}  // namespace weft::net
