// Who is captured: a namespace that was found, the listeners in it, and who is behind it. In this
// order, so that no connection goes where nobody accepts:
//
//   found -> weft-sockets knows it -> listeners -> every proxy has them -> connections are captured
//
// and backwards when it goes. Listeners are kept here: proxies get copies. No I/O but the hooks';
// one thread.
#pragma once

#include <weft/v1/proxy.pb.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/proxy/adopt.h"
#include "agent/proxy/finder.h"
#include "agent/proxy/sockets.h"
#include "mesh/model/traffic_policy.h"

namespace weft::proxy {

struct Identity {
  std::string namespace_name, name, workload, service_account;
  std::map<std::string, std::string> labels;
  model::Bypass bypass = model::Bypass::kUnsaid;

  bool operator==(const Identity&) const = default;
};

class Workloads {
 public:
  using Tell = std::function<void(const weft::v1::ToProxy&, const std::vector<int>&)>;
  struct Hooks {
    std::function<void(std::uint64_t cookie, int netns)> add;  // to weft-sockets
    std::function<void(std::uint64_t cookie)> drop;
    std::function<void(std::uint64_t cookie, std::function<void(Sockets::Listening)>)> listen;
    std::function<absl::Status(std::uint64_t cookie, std::uint32_t families)> capture;
    std::function<void(std::uint64_t cookie)> release;
    Tell tell;  // every proxy that runs
    std::function<Identity(const Namespace&)> identify;
    std::function<void()> changed;  // listeners came or went
  };
  // `inherited`: what the data path captured before; stays until settle().
  Workloads(Hooks hooks, std::set<std::uint64_t> inherited)
      : hooks_(std::move(hooks)), inherited_(std::move(inherited)) {}

  // Listeners of an earlier proxy: their namespaces get no other ones.
  void adopt(std::map<std::uint64_t, Adopted> listeners) { adopted_ = std::move(listeners); }
  void appeared(const Namespace& found);
  void gone(std::uint64_t cookie);
  // All have been looked for: what was inherited and was not found goes.
  void settle();
  // weft-sockets is another process, which knows nothing.
  void introduce();
  // Once more, where listening or capturing failed.
  void retry();
  void identify_again();
  // Tells one that is new.
  void greet(const Tell& tell) const;

  std::size_t size() const { return known_.size(); }
  std::size_t captured() const;
  const Identity* identity_of(std::uint64_t cookie) const;  // null: no such namespace
  // All that are known, whoever is behind them.
  template <class F>
  void for_each(F&& visit) const {
    for (const auto& [cookie, workload] : known_) visit(workload.found, workload.identity);
  }
  struct Listener {
    std::uint64_t cookie;
    std::uint32_t family;  // one bit of enum weft_listening
    int fd;                // stays where it is
  };
  std::vector<Listener> listeners() const;

 private:
  struct Workload {
    Namespace found;
    Identity identity;
    std::uint32_t families = 0;
    std::vector<base::Fd> listeners;
    bool listening = false;  // was asked for and not answered
    bool captured = false;
    std::string error;  // as it was logged
  };
  void listen(std::uint64_t cookie, Workload& workload);
  void take(std::uint64_t cookie, Sockets::Listening listening);
  void capture(std::uint64_t cookie, Workload& workload);
  static weft::v1::ToProxy message_of(const Workload& workload);
  static std::vector<int> descriptors_of(const Workload& workload);

  Hooks hooks_;
  std::set<std::uint64_t> inherited_;
  std::map<std::uint64_t, Adopted> adopted_;
  std::map<std::uint64_t, Workload> known_;
};

}  // namespace weft::proxy
