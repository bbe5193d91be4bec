#include "agent/app/looks.h"

#include <set>

#include "agent/kernel/bypass.h"
#include "agent/kernel/datapath.h"
#include "agent/kernel/neighbours.h"
#include "mesh/base/text.h"

namespace weft::app {

std::vector<std::string> differences_of(const compile::MapState& placed, const kernel::Maps& maps) {
  auto actual = kernel::read_state(maps);
  if (!actual.ok()) return {base::message_of(actual.status())};
  std::vector<std::string> lines;
  using Table = model::BucketTable<compile::PlacedService>;
  Table::for_each_change(
      placed.services, actual->services, [&](const auto* want, const auto* have) {
        if (want && have && **want == **have) return;
        // A service without ports (ExternalName) leaves nothing in the maps to compare.
        if (want && !have && (*want)->ports.empty()) return;
        const auto& key = want ? (*want)->key : (*have)->key;
        lines.push_back(key.to_text() + (!have   ? ": in the model, not in the maps"
                                         : !want ? ": in the maps, not in the model"
                                                 : ": maps and model differ"));
      });
  return lines;
}

std::vector<node::Neighbour> neighbours_of(const kernel::Pins& pins, const std::string& cgroup) {
  auto found = node::network_neighbours();
  std::set<std::uint32_t> own;
  for (const auto& hook : kernel::read_hooks(pins, cgroup)) own.insert(hook.program_id);
  own.insert(kernel::read_bypass_hook(pins, cgroup).program_id);
  for (auto& [name, what] : kernel::in_words(kernel::foreign_programs(cgroup, own)))
    found.push_back({std::move(name), std::move(what)});
  return found;
}

}  // namespace weft::app
