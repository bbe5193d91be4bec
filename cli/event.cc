#include <unistd.h>

#include <ctime>

#include "cli/admin_client.h"
#include "cli/cli.h"

namespace weft::cli {
namespace {

std::string time_text(std::int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32], whole[48];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(whole, sizeof whole, "%s.%03dZ", text, static_cast<int>(ms % 1000));
  return whole;
}

void print_event(const Context& context, const Json& event) {
  if (context.wants_json()) return print_json(context, event);
  const auto text = [&](const char* key) { return event.value(key, ""); };
  const auto for_ms = event.value("for_ms", std::int64_t{0});
  std::printf("%s  %s:%d  %s  %s -> %s  %s%s\n",
              time_text(event.value("time_ms", std::int64_t{0})).c_str(), text("service").c_str(),
              event.value("port", 0), text("endpoint").c_str(), text("from").c_str(),
              text("to").c_str(), text("reason").c_str(),
              for_ms > 0 ? ("  for " + std::to_string(for_ms) + " ms").c_str() : "");
}

// An agent that was there once is restarted or replaced, and the next one's numbers go on from its
// own, so nothing is missed or printed twice. Said once for each time it is away.
void wait_for_the_next(const absl::Status& status, bool& away) {
  constexpr useconds_t kPause = 200'000;
  if (!away)
    std::fprintf(stderr, "weftctl: %s; waiting for the next agent\n",
                 std::string(status.message()).c_str());
  away = true;
  usleep(kPause);
}

// The agent answers with the next events, or after some seconds with none; then we ask again.
void watch(Context& context, bool history, std::size_t count) {
  Json request{{"command", "events"}};  // without "after": the newest number, at once
  if (history) request["after"] = 0;
  bool reached = false, away = false;
  for (std::size_t seen = 0; !count || seen < count;) {
    const auto answer = send_request(context.run_dir, request);
    if (!answer.ok() && !reached) return fail(context, answer.status());
    if (!answer.ok()) {
      wait_for_the_next(answer.status(), away);
      continue;
    }
    reached = true;
    away = false;
    for (const auto& event : (*answer)["events"]) {
      print_event(context, event);
      if (++seen == count) break;
    }
    std::fflush(stdout);
    request["after"] = answer->value("last", std::uint64_t{0});
  }
}

}  // namespace

void add_event(CLI::App& root, Context& context) {
  auto& noun = add_noun(root, "event", "Transitions of circuit breakers, as they happen");
  auto history = std::make_shared<bool>(false);
  auto count = std::make_shared<std::size_t>(0);
  auto& command = add_command(
      noun, "watch", "Prints each as it happens, until interrupted; goes on with the next weftd",
      [&context, history, count] { watch(context, *history, *count); });
  command.add_flag("--history", *history, "First the last 1,000 of this agent");
  command.add_option("--count", *count, "End after so many");
}

}  // namespace weft::cli
