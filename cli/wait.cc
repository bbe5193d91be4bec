#include <unistd.h>

#include <thread>

#include "cli/cli.h"
#include "cli/collect.h"
#include "mesh/base/duration.h"

namespace weft::cli {
namespace {

using namespace std::chrono_literals;

struct Wish {
  std::string service;
  int ready = -1;
  std::int64_t generation = -1;
  std::string timeout = "10s";
};

// Ready endpoints over all ports and families, as `service list` counts them; -1: no such service.
int ready_in(const compile::MapState& state, const model::ServiceKey& key) {
  const auto* service = state.services.find(key);
  if (!service) return -1;
  int ready = 0;
  for (const auto& port : (*service)->ports)
    for (const auto& endpoint : port.endpoints)
      ready += in_use(port, endpoint) && endpoint.state == model::EndpointState::kReady;
  return ready;
}

// Whether a look saw no half of a plan. Where plan follows upon plan none is settled: then what was
// there before one ended, and is after, is whole. `first` is the generation at the first of the
// looks in a row that saw the same.
bool is_whole(const kernel::Look& look, std::optional<std::uint64_t>& first) {
  if (!first) first = look.generation;
  return look.settled || *first != look.generation;
}

void wait(Context& context, const Wish& wish) {
  const auto timeout = base::parse_duration(wish.timeout);
  const auto key = model::ServiceKey::parse(wish.service);
  if (!timeout)
    return fail(context,
                "--timeout " + wish.timeout + " is not a duration: write 500ms, 10s or 2m");
  if (!wish.service.empty() && !key)
    return fail(context, "\"" + wish.service + "\" is not NAMESPACE/NAME");
  const auto deadline = std::chrono::steady_clock::now() + *timeout;
  std::string last = "no weft maps are pinned under " + context.bpffs;
  std::optional<kernel::Maps> maps;
  std::optional<std::uint64_t> first;
  for (auto pause = 1ms;; pause = std::min<std::chrono::milliseconds>(pause * 2, 20ms)) {
    if (!maps) {
      auto opened = kernel::Maps::open(context.pins(), kernel::Access::kReadOnly);
      if (opened.ok()) maps = *std::move(opened);
      if (!opened.ok() && geteuid() != 0) return (void)open_maps(context);  // says what is wrong
    }
    if (maps && wish.generation >= 0) {
      const auto now = kernel::load(maps->meta.at(0).generation);
      if (now >= static_cast<std::uint64_t>(wish.generation)) return;
      last = "generation is " + std::to_string(now) + ", not " + std::to_string(wish.generation);
    } else if (maps) {
      const auto look = kernel::look_at(*maps);
      if (!look.ok()) return fail(context, std::string(look.status().message()));
      const int now = ready_in(look->state, *key);
      if (now == wish.ready) {
        if (is_whole(*look, first)) return;
        last =
            "a plan is under way and does not end; if no agent runs, one died in the middle of it";
      } else {
        first.reset();
        last = now < 0 ? "service " + wish.service + " is not in the maps"
                       : "service " + wish.service + " has " + std::to_string(now) +
                             " ready, not " + std::to_string(wish.ready);
      }
    }
    if (std::chrono::steady_clock::now() + pause > deadline)
      return fail(context, "after " + wish.timeout + ": " + last +
                               "; weftctl status says what the agent does");
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace

void add_wait(CLI::App& root, Context& context) {
  auto wish = std::make_shared<Wish>();
  auto& command = add_command(
      root, "wait", "Until a service has that many ready endpoints, or a generation is in force",
      [] {});
  add_help(command);
  auto* service = command.add_option("--service", wish->service, "NAMESPACE/NAME");
  auto* ready = command.add_option("--ready", wish->ready, "How many ready endpoints, exactly")
                    ->check(CLI::NonNegativeNumber);
  auto* generation = command.add_option("--generation", wish->generation, "At least this one")
                         ->check(CLI::NonNegativeNumber);
  command.add_option("--timeout", wish->timeout, "How long: 500ms, 10s, 2m")->capture_default_str();
  service->needs(ready);
  ready->needs(service);
  generation->excludes(service);
  command.callback([&context, wish, service, generation] {
    if (service->count() == 0 && generation->count() == 0)
      throw CLI::RequiredError("--service NS/NAME --ready N, or --generation N");
    wait(context, *wish);
  });
}

}  // namespace weft::cli
