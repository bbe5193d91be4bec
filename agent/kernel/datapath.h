// The eBPF programs: loading, pinning, attaching, replacing in place. The only part that knows
// libbpf's skeleton.
//
// The rule of upgrades: a hook is never detached. A program is replaced by bpf_link_update on the
// pinned link; maps of another layout or size are built beside the old ones, filled, and come into
// force with that same update (docs/architecture.md, "Layout version").
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/compile/ids.h"
#include "agent/kernel/maps.h"

namespace weft::kernel {

struct Feature {
  std::string name;
  bool enabled = false;
  std::string reason;  // where not enabled: what is missing, what is lost by it
};

struct Hook {
  std::string name;  // "connect4", ...
  bool attached = false;
  std::string cgroup;  // path
  std::uint32_t link_id = 0;
  std::uint32_t program_id = 0;
  std::uint64_t cgroup_id = 0;  // as the kernel says; 0 where the cgroup is gone
  bool effective = false;       // the link hangs on the very cgroup asked for, and that is alive
};

struct DatapathOptions {
  Pins pins;
  std::string cgroup;
  compile::Limits limits;
  std::uint32_t affinity_entries = 65536;  // --max-connections
  bool labelled_only = false;              // --enrol labelled
  bool proxy = false;                      // connections may be captured (abi/capture.h)
};

// While it lives the programs in force leave this process alone, whoever attached them: sources
// are read before there is a data path of our own. Does nothing where no maps are pinned.
class Spared {
 public:
  explicit Spared(const Pins& pins);
  ~Spared();
  Spared(const Spared&) = delete;
  Spared& operator=(const Spared&) = delete;

 private:
  ArrayMap<weft_meta> meta_;
};

class Datapath {
 public:
  ~Datapath();

  // What is missing to run at all (root, BTF, cgroup v2, bpffs): one line each; empty: nothing.
  static std::vector<std::string> missing(const DatapathOptions& options);

  // Loads the programs on the pinned maps, or on new ones where there are none or they do not fit.
  // Nothing is attached yet, nothing pinned is changed.
  static absl::StatusOr<std::unique_ptr<Datapath>> load(const DatapathOptions& options);

  Maps& maps() { return maps_; }
  const std::vector<Feature>& features() const { return features_; }
  // True where the maps are new: they must be filled before attach().
  bool fresh_maps() const { return fresh_; }
  // What happened to maps that were there and did not fit; empty: nothing.
  const std::string& migration() const { return migration_; }

  // What is in force now: the maps in use, or, before attach() of a migration within one layout,
  // those that are left behind; their numbers stay valid in the new ones.
  absl::StatusOr<compile::MapState> actual() const;

  // Puts the programs in force: creates links or updates the pinned ones in place, then makes new
  // maps the pinned ones. Idempotent.
  absl::Status attach();

  // Puts the program that answers SO_ORIGINAL_DST in force at the proxy's cgroup, which lies at or
  // below the data path's: the other hooks must see the proxy's sockets, too. After attach().
  absl::Status attach_proxy(const std::string& cgroup);

 private:
  Datapath();
  struct State;
  std::unique_ptr<State> state_;
  Maps maps_;
  std::vector<Feature> features_;
  bool fresh_ = false;
  std::string migration_;
};

// Pinned links as they are, whoever made them; also without an agent.
std::vector<Hook> read_hooks(const Pins& pins, const std::string& cgroup);
const std::vector<std::string>& hook_names();
// The one at the proxy's cgroup, which is not among them.
Hook read_proxy_hook(const Pins& pins);
// Where the cgroup of that id is now; empty where it is gone or cannot be looked up.
std::string cgroup_path(std::uint64_t id);

// Removes links and pins. Absent is fine.
absl::Status uninstall(const Pins& pins);

}  // namespace weft::kernel
