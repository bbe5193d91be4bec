// Programs of others that see the same calls as weft's hooks: attached to weft's cgroup or to one
// above it. Only looked at, never touched.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace weft::kernel {

struct ForeignProgram {
  std::string hook;  // as hook_types() names it
  std::uint32_t id = 0;
  std::string name;    // empty where it cannot be read (that takes CAP_SYS_ADMIN)
  std::string cgroup;  // where it is attached; empty: above all that is mounted here
  // False: the kernel passes over it below weft's programs, as it was attached with
  // BPF_F_ALLOW_OVERRIDE alone, or with no flag at all.
  bool runs = true;

  bool operator==(const ForeignProgram&) const = default;
};

// By hook, the innermost cgroup first. own_program_ids: of read_hooks(), read for this call (a
// replaced program has another id). A cgroup below weft's is not looked at.
//
// Never fails. What cannot be read is left out, and `why` says so.
std::vector<ForeignProgram> foreign_programs(const std::string& cgroup,
                                             const std::set<std::uint32_t>& own_program_ids,
                                             std::string* why = nullptr);

// For people: a name and one sentence for each maker and cgroup, however many hooks it has there.
std::vector<std::pair<std::string, std::string>> in_words(
    const std::vector<ForeignProgram>& programs);

}  // namespace weft::kernel
