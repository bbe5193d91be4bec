#include "control_plane/sources/kubernetes/kubernetes_source.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <unordered_map>

#include "control_plane/sources/kubernetes/credentials.h"
#include "control_plane/sources/kubernetes/http_client.h"
#include "control_plane/sources/kubernetes/list_watch.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"
#include "mesh/manifest/reader.h"
#include "mesh/model/failover.h"

namespace weft::sources {
namespace {

namespace asio = boost::asio;
using namespace kubernetes;
using namespace std::chrono_literals;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr auto kAccessRetry = 5s;

std::vector<Resource> resources_of(const std::string& node) {
  return {{"", "v1", "services", "Service", ""},
          {"discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", ""},
          {"", "v1", "namespaces", "Namespace", ""},
          {"", "v1", "nodes", "Node", "fieldSelector=metadata.name%3D" + node},
          {"", "v1", "pods", "Pod", "fieldSelector=spec.nodeName%3D" + node},
          {"networking.istio.io", "v1", "destinationrules", "DestinationRule", "", true},
          {"networking.istio.io", "v1", "virtualservices", "VirtualService", "", true},
          {"networking.istio.io", "v1", "serviceentries", "ServiceEntry", "", true},
          {"gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", "", true}};
}

// Pods of this node included; of these the whole Pod counts.
const Resource kPodLabels{"", "v1", "pods", "Pod", "", false, true};

// Whole, for who selects Pods himself. A Pod is in this list or in its own node's, never in both:
// it stays where it was bound to, and before that it is in neither.
Resource pods_elsewhere(const std::string& node) {
  return {"", "v1", "pods", "Pod",
          "fieldSelector=spec.nodeName%21%3D" + node + "%2Cspec.nodeName%21%3D"};
}

bool names_a_subset(const model::VirtualServiceObject& routes) {
  const auto named = [](const auto& to) { return !to.subset.empty(); };
  return std::any_of(routes.backends.begin(), routes.backends.end(), named) ||
         std::any_of(routes.tcp.begin(), routes.tcp.end(), [&](const auto& rule) {
           return std::any_of(rule.destinations.begin(), rule.destinations.end(), named);
         });
}

// Of the pods of other nodes. An HTTPRoute has no subsets.
bool needs_labels(const model::Unit& unit) {
  return std::any_of(unit.objects.begin(), unit.objects.end(), [](const auto& object) {
    const auto* routes = std::get_if<model::VirtualServiceObject>(object.get());
    const auto* rule = std::get_if<model::DestinationRuleObject>(object.get());
    return (routes && names_a_subset(*routes)) || (rule && !compared_labels(*rule).empty());
  });
}

// Of a Service slices say whom it selects; nobody writes any for a ServiceEntry.
bool selects_pods(const model::Unit& unit) {
  return std::any_of(unit.objects.begin(), unit.objects.end(), [](const auto& object) {
    const auto* service = std::get_if<model::ServiceObject>(object.get());
    return service && service->entry && !service->selector.empty();
  });
}

bool equal(const model::Unit& a, const model::Unit& b) {
  const auto same = [](const auto& x, const auto& y) { return x == y || *x == *y; };
  return std::equal(a.objects.begin(), a.objects.end(), b.objects.begin(), b.objects.end(), same) &&
         a.notices == b.notices;
}

class KubernetesSource : public Source {
 public:
  KubernetesSource(asio::io_context& control, std::string uri, const KubernetesOptions& options,
                   Events events)
      : control_(control),
        uri_(std::move(uri)),
        options_(options),
        events_(std::move(events)),
        refreshed_(control, Clock::time_point::max()) {
    status_.changed = Clock::now();
  }
  ~KubernetesSource() override { pool_.join(); }

  const std::string& uri() const override { return uri_; }
  const Status& status() const override { return status_; }

  void start() override {
    for (auto& resource : resources_of(options_.node_name)) add_follower(std::move(resource));
    asio::co_spawn(control_, run(), asio::detached);
  }

 private:
  struct Follower {
    explicit Follower(asio::io_context& control) : client(control), timer(control) {}
    Resource resource;
    std::string prefix;  // of its units' names
    std::optional<ListWatch> core;
    HttpClient client;
    asio::steady_timer timer;
    std::uint64_t material = 0;  // of the credentials that the client has
    std::string error;
    std::unordered_map<std::string, std::shared_ptr<const model::Unit>> units;
  };
  using Alive = std::weak_ptr<int>;

  Follower& add_follower(Resource resource, const std::string& distinction = "") {
    auto& follower = followers_.emplace_back(std::make_unique<Follower>(control_));
    follower->prefix = resource.plural + distinction + "/";
    follower->resource = std::move(resource);
    follower->core.emplace(follower->resource, sink_of(*follower), std::random_device()());
    return *follower;
  }

  // --- one resource ---

  // The credentials first: they may come from a program that takes its time.
  asio::awaitable<void> run() {
    const Alive alive = alive_;
    while (!credentials_) {
      auto access = uri_ == "kubernetes:"
                        ? in_cluster()
                        : read_kubeconfig(uri_.substr(std::strlen("kubernetes:")));
      if (access.ok()) {
        credentials_.emplace(*std::move(access));
        break;
      }
      start_error_ = base::message_of(access.status());
      finish(Clock::now());
      asio::steady_timer timer(control_);
      timer.expires_after(kAccessRetry);
      co_await timer.async_wait(kAwait);
      if (alive.expired()) co_return;
    }
    start_error_.clear();
    for (auto& follower : followers_) asio::co_spawn(control_, follow(*follower), asio::detached);
  }

  // A resource that only some objects need. True: what it has is known.
  bool know(Follower*& follower, const Resource& resource, const char* distinction) {
    if (!follower) {
      follower = &add_follower(resource, distinction);
      asio::co_spawn(control_, follow(*follower), asio::detached);
    }
    return follower->core->listed();
  }

  asio::awaitable<void> follow(Follower& follower) {
    const Alive alive = alive_;
    for (;;) {
      auto error = co_await prepare(follower);
      if (alive.expired()) co_return;
      ListWatch::Ending ending;
      if (!error.empty()) {
        ending.error = follower.resource.plural + ": " + error;
        ending.delay = kAccessRetry;
      } else {
        ending = co_await ask(follower);
        if (alive.expired()) co_return;
      }
      if (!waiting_.empty()) tell_waiting();
      follower.error = ending.error;
      rejected_ |= ending.unauthorized;
      finish(Clock::now());
      if (ending.delay == 0ms) continue;
      follower.timer.expires_after(ending.delay);
      co_await follower.timer.async_wait(kAwait);
      if (alive.expired()) co_return;
    }
  }

  // Fresh credentials, read where it may block. Empty: the client has them.
  asio::awaitable<std::string> prepare(Follower& follower) {
    const Alive alive = alive_;
    while (refreshing_) {
      co_await refreshed_.async_wait(kAwait);
      if (alive.expired()) co_return "";
    }
    refreshing_ = true;
    const bool was_rejected = std::exchange(rejected_, false);
    // Whatever happens to this source meanwhile: its destructor waits for the pool.
    auto changed = co_await asio::co_spawn(pool_, refresh(was_rejected), asio::use_awaitable);
    if (alive.expired()) co_return "";
    refreshing_ = false;
    refreshed_.cancel();
    credentials_error_ = changed.ok() ? "" : base::message_of(changed.status());
    // What was good goes on: a renewal that failed is an error, not an end.
    if (!changed.ok() && !usable_) co_return std::exchange(credentials_error_, "");
    usable_ = true;
    authorization_ = credentials_->authorization();
    if (changed.ok() && *changed) ++material_;
    if (follower.material == material_) co_return "";
    if (auto status = follower.client.set_access(credentials_->access()); !status.ok()) {
      credentials_error_ = base::message_of(status);
      co_return follower.material ? "" : credentials_error_;
    }
    follower.material = material_;
    co_return "";
  }

  // On the pool's thread; nobody else touches the credentials meanwhile.
  asio::awaitable<absl::StatusOr<bool>> refresh(bool was_rejected) {
    if (was_rejected) credentials_->rejected();
    co_return credentials_->refresh(std::chrono::system_clock::now());
  }

  asio::awaitable<ListWatch::Ending> ask(Follower& follower) {
    const Alive alive = alive_;
    auto& core = *follower.core;
    HttpEvents events;
    events.header = [this, &follower](int status, std::optional<int> retry_after) {
      follower.core->begin(status, retry_after);
      ++status_.reads;
      // A watch is well from its header on, not from its end.
      if (status == 200 && follower.core->watching() && !follower.error.empty()) {
        follower.error.clear();
        finish(Clock::now());
      }
    };
    events.body = [this, &follower](std::string_view bytes) {
      const auto begin = Clock::now();
      const bool more = follower.core->feed(bytes);
      if (changed_) finish(begin);
      return more;
    };
    events.patience = [&core] {
      // A watch may be silent until its time is over, 600 s at most.
      return core.watching() && !core.mid_event() ? 630s : 30s;
    };
    const auto begin = Clock::now();
    const auto target = core.target(), accept = core.accept();
    auto broken = co_await follower.client.get(target, accept, authorization_, std::move(events));
    if (alive.expired()) co_return ListWatch::Ending{};
    co_return core.end(broken,
                       std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin));
  }

  // --- telling ---

  ListWatch::Sink sink_of(Follower& follower) {
    ListWatch::Sink sink;
    sink.object = [this, &follower](const std::string& name, std::string_view json) {
      const auto unit_name = follower.prefix + name;
      auto& unit = follower.units[name];
      const auto kind = follower.resource.item_kind(), version = follower.resource.item_version();
      auto read = manifest::parse_item(json, "kubernetes:" + unit_name, {kind, version});
      // What is odd about a pod its own node's agent says.
      if (follower.resource.metadata_only) read.notices.clear();
      auto fresh = manifest::carry_over(unit, std::move(read));
      if (unit && equal(*unit, *fresh)) return;
      unit = std::move(fresh);
      tell(unit_name, unit);
    };
    sink.gone = [this, &follower](const std::string& name) {
      if (follower.units.erase(name)) tell(follower.prefix + name, nullptr);
    };
    return sink;
  }

  bool knows_enough_for(const model::Unit& unit) {
    bool enough = true;
    if (needs_labels(unit)) enough &= know(pod_labels_, kPodLabels, ".metadata");
    if (selects_pods(unit))
      enough &= know(pods_elsewhere_, pods_elsewhere(options_.node_name), ".elsewhere");
    return enough;
  }

  // Publishes, at once unless it needs to know pods of other nodes first.
  void tell(const std::string& name, const std::shared_ptr<const model::Unit>& unit) {
    if (unit && !knows_enough_for(*unit)) {
      waiting_[name] = unit;
      return;
    }
    waiting_.erase(name);
    publish(name, unit);
  }

  void tell_waiting() {
    for (auto& [name, unit] : std::exchange(waiting_, {})) tell(name, unit);
  }

  void publish(const std::string& name, std::shared_ptr<const model::Unit> unit) {
    ++status_.updates;
    changed_ = true;
    events_.unit(name, std::move(unit));
  }

  std::string error_now() const {
    if (!start_error_.empty()) return start_error_;
    if (!credentials_error_.empty()) return credentials_error_;
    std::uint64_t nameless = 0;
    for (const auto& follower : followers_) {
      if (!follower->error.empty()) return follower->error;
      nameless += follower->core->nameless();
    }
    return nameless ? std::to_string(nameless) + " objects without a name were passed over" : "";
  }

  void finish(Clock::time_point first_event) {
    const auto error = error_now();
    const bool other_error = error != status_.error;
    if (other_error && error.empty())
      log::info("source", {{"uri", uri_}, {"state", "in order again"}});
    if (other_error && !error.empty()) log::warning("source", {{"uri", uri_}, {"error", error}});
    if (other_error && !error.empty()) ++status_.errors;
    status_.error = error;
    // Nothing waits for what Nodes say.
    status_.synced |=
        !followers_.empty() && std::all_of(followers_.begin(), followers_.end(), [](const auto& f) {
          const bool may_lack = f->resource.optional && !f->error.empty();
          return f->core->listed() || may_lack || f->resource.plural == "nodes";
        });
    const bool tell = changed_ || other_error || status_.synced != told_synced_;
    if (changed_) status_.changed = Clock::now();
    changed_ = false;
    told_synced_ = status_.synced;
    if (tell) events_.batch(first_event);
  }

  asio::io_context& control_;
  const std::string uri_;
  const KubernetesOptions options_;
  Events events_;
  std::optional<Credentials> credentials_;
  std::vector<std::unique_ptr<Follower>> followers_;
  Follower* pod_labels_ = nullptr;      // of all nodes; null: nobody asks for them yet
  Follower* pods_elsewhere_ = nullptr;  // likewise
  std::map<std::string, std::shared_ptr<const model::Unit>> waiting_;  // for those
  std::uint64_t material_ = 1;
  std::string authorization_;
  asio::steady_timer refreshed_;  // cancelled when a refresh has ended
  bool refreshing_ = false, rejected_ = false, changed_ = false, told_synced_ = false;
  std::string start_error_, credentials_error_;
  bool usable_ = false;  // there were credentials once
  Status status_;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  asio::thread_pool pool_{1};  // for what may block: exec plugins
};

}  // namespace

std::unique_ptr<Source> make_kubernetes_source(asio::io_context& control, const std::string& uri,
                                               const KubernetesOptions& options, Events events) {
  return std::make_unique<KubernetesSource>(control, uri, options, std::move(events));
}

}  // namespace weft::sources
