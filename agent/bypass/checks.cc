#include "agent/bypass/checks.h"

#include <sys/prctl.h>

#include "agent/bypass/each_check.h"

namespace weft::bypass {
namespace {

struct Named {
  const char* name;  // at most 15 letters: the thread's, too
  void (*check)(Trial& trial, std::uint64_t credit);
};
constexpr Named kChecks[] = {
    {"pairing", check_pairing},       {"bytes", check_bytes}, {"order", check_order},
    {"half-close", check_half_close}, {"close", check_close}, {"reset", check_reset},
    {"readiness", check_readiness},   {"epoll", check_epoll}, {"backpressure", check_backpressure},
    {"drain", check_drain},
};

}  // namespace

std::vector<Check> run_checks(kernel::BypassMaps& maps, std::uint64_t credit) {
  std::vector<Check> done;
  for (const auto& [name, check] : kChecks) {
    // For the parent, should this one never end.
    prctl(PR_SET_NAME, name);
    maps.set_mode(WEFT_BYPASS_ON);
    Trial trial(maps);
    check(trial, credit);
    done.push_back({name, trial.reason()});
    // Of what is broken the next may wait in vain as well, and the parent does not for ever.
    if (trial.over()) break;
  }
  maps.set_mode(WEFT_BYPASS_OFF);
  return done;
}

}  // namespace weft::bypass
