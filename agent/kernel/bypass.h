// The same-node bypass in the kernel (abi/bypass.h): loading, putting in force, words, what it did.
//
// Its maps are pinned in a directory that names their layout, beside the data path's, and are never
// rebuilt: sockets that joined keep the programs they joined with, and those the maps. A weftd of
// another layout lets nobody new join here, and removes the directory when the last socket is gone.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "abi/bypass.h"
#include "agent/kernel/datapath.h"
#include "agent/kernel/map.h"
#include "agent/kernel/maps.h"

namespace weft::kernel {

// Bytes that one direction may have unread, and all of the node together: a reader that does not
// read costs no more than with TCP, whose buffers hold about 4 MB (docs/bypass.md).
inline constexpr std::uint64_t kBypassCredit = 1 << 20;
inline constexpr std::uint64_t kBypassNodeLimit = 256 << 20;

struct BypassPair {
  std::uint64_t id = 0;
  weft_bypass_pair value{};
};

// Both cumulative over all CPUs, by enum weft_bypass_path.
using BypassCounts = std::array<weft_bypass_count, WEFT_BYPASS_PATHS>;

struct MapFill {
  std::string name;
  std::uint64_t entries = 0, capacity = 0;
};

struct BypassTarget {
  weft_bypass_target target{};
  weft_bypass_word word = WEFT_BYPASS_SAYS_NOTHING;
};

// What is pinned, by whomever; reading needs no agent.
class BypassMaps {
 public:
  // NotFound: no bypass was ever loaded there.
  static absl::StatusOr<BypassMaps> open(const Pins& pins, Access access);

  weft_bypass_mode mode() const;
  // One atomic store; live connections follow with their next message.
  void set_mode(weft_bypass_mode mode);
  bool joining() const;  // new connections may join: the programs belong at their hooks
  void set_joining(bool joining);
  void set_limits(std::uint64_t credit, std::uint64_t node_limit);

  // What services and namespaces say, whole; pairs are judged anew with their next message.
  absl::Status set_services(const std::vector<BypassTarget>& targets);
  absl::Status set_workloads(const std::map<std::uint64_t, weft_bypass_word>& by_cookie);

  absl::StatusOr<std::vector<BypassPair>> pairs() const;
  BypassCounts counts() const;
  weft_bypass_totals totals() const;
  weft_bypass_knobs knobs() const;  // a copy
  std::vector<MapFill> fills() const;
  // Whether anything is queued for that end; needs the program that is pinned beside the maps.
  weft_bypass_look look(std::uint64_t id, std::uint32_t side) const;
  // Whether what joins gets the program that sends; true where the kernel cannot be asked.
  bool sends() const;
  int readers_fd() const { return readers_.get(); }

 private:
  void note_declared();

  ArrayMap<weft_bypass_knobs> knobs_;
  ArrayMap<weft_bypass_totals> totals_;
  HashMap<std::uint64_t, weft_bypass_pair> pairs_;
  HashMap<weft_bypass_target, std::uint64_t> services_;
  HashMap<std::uint64_t, std::uint64_t> workloads_;
  base::Fd counts_, readers_, look_, sockets_;
  std::uint64_t epoch_ = 0;
};

// Loads the programs on the pinned maps, or on new ones, and puts them in force at the cgroup: new
// connections join with them. Errors name the verifier's reason; nothing is changed then. The mode
// is as it was, off in new maps.
absl::StatusOr<BypassMaps> load_bypass(const Pins& pins, const std::string& cgroup);

// Where nobody new joins: takes the program away from the cgroup once nothing that joined is left;
// until then it is needed, since connections leave and close by it. The maps stay, with their
// counts. True: nothing is attached.
absl::StatusOr<bool> detach_bypass(const Pins& pins);

// What a weftd of another layout left: nobody new joins there, and what has no connection any more
// is removed. Returns how many layouts are still in use.
absl::StatusOr<std::size_t> retire_other_bypasses(const Pins& pins);

// The connections for which something is still queued, as "CLIENT -> SERVER: for the server".
// Empty: the maps may go.
std::vector<std::string> bypass_queues(const BypassMaps& maps);

// Turns it off, waits until nothing is queued and removes it. While it waits, `waiting` hears of
// each new list of connections; it answers false to give up (then DeadlineExceeded, and redirect
// stays off). Absent is fine.
absl::Status uninstall_bypass(const Pins& pins,
                              const std::function<bool(const std::vector<std::string>&)>& waiting);

// The link at the cgroup, "bypass_join", as read_hooks() tells those of the data path.
Hook read_bypass_hook(const Pins& pins, const std::string& cgroup);
// Those of the data path and, where connections may join, the bypass's.
std::vector<Hook> read_all_hooks(const Pins& pins, const std::string& cgroup);

std::string text_of(const weft_bypass_end& end);  // "10.0.0.1:80", "[fd00::1]:80"
const char* name_of(weft_bypass_path path);       // "order", ...

}  // namespace weft::kernel
