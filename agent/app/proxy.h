// The node's L7 proxy, as the agent runs it: processes, who is captured, and what the proxies are
// told. Wiring only; agent/proxy and agent/publish do the work. Control thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "abi/bypass.h"
#include "agent/app/options.h"
#include "agent/app/proxy_reports.h"
#include "agent/kernel/datapath.h"
#include "agent/node/workloads.h"
#include "agent/observe/snapshot.h"
#include "agent/proxy/namespaces.h"
#include "agent/proxy/pods.h"
#include "agent/proxy/sockets.h"
#include "agent/proxy/supervisor.h"
#include "agent/proxy/workloads.h"
#include "agent/publish/publisher.h"
#include "userspace_proxy/routes/table.h"

namespace weft::app {

class Proxy {
 public:
  struct Events {
    std::function<void()> changed;                           // of status()
    std::function<void(const weft_transition&)> transition;  // a proxy moved a breaker
  };
  // References outlive this.
  Proxy(boost::asio::io_context& control, const Options& options, kernel::Datapath& datapath,
        Events events);

  // Once the data path is in force. What fails is in status() and tried again: connections follow
  // their service's rule for a proxy that is down, and the rest of the mesh is served.
  void start();
  // Before start(): where the sockets that weft-proxy reads are marked (agent/kernel/bypass.h).
  void set_bypass_readers(int map) { bypass_readers_ = map; }
  // What Pods say of the bypass, by the network namespace that is theirs alone.
  std::map<std::uint64_t, weft_bypass_word> bypass_words() const;
  void set_mesh(const model::MeshPtr& mesh, const compile::MapState& placed,
                const std::set<std::uint32_t>& ejected);
  // Breakers of these have moved; what that changes is told with the next mesh.
  void on_breakers(const std::set<model::ServiceKey>& services);
  void set_unit(const std::string& name, const std::shared_ptr<const model::Unit>& unit);
  // Whose connections are captured, with --enrol labelled.
  void set_pods(const std::vector<node::Workload>& pods);
  void beat();  // once a second
  absl::Status reload();

  observe::ProxyStatus status() const;
  routes::Caller caller(std::uint64_t netns_cookie) const;  // empty where nobody knows it
  // As of the last beat.
  std::shared_ptr<const observe::ProxyReport> report() const { return report_; }

 private:
  absl::Status try_to_start();
  void drain_what_is_left();
  absl::Status start_sockets();
  void start_namespaces();
  void start_supervisor();
  proxy::Workloads::Hooks workload_hooks();
  proxy::Supervisor::Hooks supervisor_hooks();
  proxy::Program program() const;
  absl::StatusOr<proxy::Supervisor::Hooks::Gifts> gifts(std::uint32_t number);
  proxy::Supervisor::Hooks::Gifts external_gifts() const;
  proxy::Identity identify(const proxy::Namespace& found) const;
  void welcome(proxy::Generation& generation);
  void tell_news();
  void mark_readers(std::uint64_t netns_cookie) const;
  void tell(proxy::Generation& generation);
  void listeners_changed();
  void ask_for_reports();
  void set_report();
  bool is_off() const { return options_.proxy == "off"; }
  bool is_external() const { return options_.proxy.starts_with("external:"); }

  boost::asio::io_context& control_;
  const Options& options_;
  kernel::Datapath& datapath_;
  Events events_;
  publish::Publisher publisher_;
  proxy::PodIndex pods_;
  bool has_pods_ = false;                    // at the last beat
  std::map<std::string, std::string> uids_;  // by cgroup, of enrolled pods
  base::Fd own_sockets_;
  int bypass_readers_ = -1;
  ProxyReports reports_;
  std::shared_ptr<const observe::ProxyReport> report_ = std::make_shared<observe::ProxyReport>();
  std::uint64_t asked_ = 0;
  bool wanted_ = false, started_ = false;
  std::chrono::steady_clock::time_point sockets_started_{};
  std::string error_;
  boost::asio::steady_timer listeners_timer_;
  std::unique_ptr<proxy::Sockets> sockets_;
  std::optional<proxy::Workloads> workloads_;
  std::optional<proxy::Supervisor> supervisor_;
  std::unique_ptr<proxy::Namespaces> namespaces_;
};

}  // namespace weft::app
