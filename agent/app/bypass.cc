#include "agent/app/bypass.h"

#include <arpa/inet.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "agent/compile/map_state.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

using namespace std::chrono_literals;

// Ten times what the self-test takes.
constexpr auto kSelfTestLimit = 10s;
constexpr char kLeaving[] =
    "nobody joins; its program stays at the cgroup until the connections that did have closed";

weft_bypass_word word_of(model::Bypass said) {
  if (said == model::Bypass::kUnsaid) return WEFT_BYPASS_SAYS_NOTHING;
  return said == model::Bypass::kOn ? WEFT_BYPASS_SAYS_ON : WEFT_BYPASS_SAYS_OFF;
}

}  // namespace

std::string self_test_file(const Options& options) { return options.run_dir + "/bypass-self-test"; }

std::vector<kernel::BypassTarget> bypass_targets(const Speaking& speaking) {
  std::map<std::pair<model::Address, std::uint16_t>, weft_bypass_word> words;
  for (const auto& [key, service] : speaking) {
    const auto word = word_of(service->traffic.bypass);
    const auto say = [&](const model::Endpoint& endpoint) {
      auto& said = words[{endpoint.address, endpoint.port}];
      if (said != WEFT_BYPASS_SAYS_OFF) said = word;
    };
    for (const auto& port : service->ports) {
      if (port.protocol != model::Protocol::kTcp) continue;
      for (const auto& endpoint : port.endpoints) say(endpoint);
      for (const auto& cluster : port.http_endpoints)
        for (const auto& endpoint : cluster) say(endpoint);
    }
  }
  std::vector<kernel::BypassTarget> targets;
  targets.reserve(words.size());
  for (const auto& [at, word] : words) {
    weft_bypass_target target{};
    target.addr = compile::to_abi(at.first);
    target.port = htons(at.second);
    targets.push_back({target, word});
  }
  return targets;
}

Bypass::Bypass(boost::asio::io_context& control, const Options& options,
               std::function<void()> changed)
    : control_(control), options_(options), pins_{options.bpffs}, changed_(std::move(changed)) {
  if (options.bypass == "off") return;
  status_.why = "starting";
  status_.reason = "starting: the self-test has not spoken yet";
}

void Bypass::start() {
  if (options_.bypass == "off") return turn_off("off", "");
  auto maps = kernel::load_bypass(pins_, options_.cgroup);
  if (!maps.ok()) return turn_off("not_loaded", base::message_of(maps.status()));
  maps_ = *std::move(maps);
  write_words();
  test_then_turn_on();
}

void Bypass::turn_off(const char* why, std::string reason) {
  // What an earlier weftd put in force: turned off, and left to its sockets.
  if (!maps_)
    if (auto maps = kernel::BypassMaps::open(pins_, kernel::Access::kReadWrite); maps.ok())
      maps_ = *std::move(maps);
  if (maps_) {
    maps_->set_joining(false);
    maps_->set_mode(WEFT_BYPASS_OFF);
    letting_go_ = true;
  }
  if (options_.bypass != "off" && reason != status_.reason)
    log::warning("bypass", {{"mode", "off"}, {"reason", reason}});
  status_.mode = "off";
  status_.why = why;
  status_.reason = std::move(reason);
  changed_();
}

// The test takes a second and its answer is this kernel's: a restart finds it written down.
void Bypass::test_then_turn_on() {
  if (const auto known = bypass::read_self_test(self_test_file(options_))) return take(*known);
  background_ = std::make_unique<kernel::Background>();
  background_->post([this] {
    auto result = std::make_shared<bypass::SelfTest>(
        bypass::run_self_test("/proc/self/exe", options_.bpffs, options_.cgroup, kSelfTestLimit));
    boost::asio::post(control_, [this, result] {
      log::info("bypass self-test", {{"ok", result->ok ? "yes" : "no"},
                                     {"ms", static_cast<int>(result->seconds * 1000)},
                                     {"differences", result->differences.size()}});
      bypass::write_self_test(self_test_file(options_), *result);
      take(*result);
    });
  });
}

void Bypass::take(const bypass::SelfTest& result) {
  status_.differences = result.differences;
  if (!result.ok)
    return turn_off("self_test", "the self-test failed on this kernel: " + result.reason);
  maps_->set_mode(options_.bypass == "on" ? WEFT_BYPASS_ON : WEFT_BYPASS_AUTO);
  status_.mode = status_.why = options_.bypass;
  status_.reason.clear();
  log::info("bypass", {{"mode", status_.mode}});
  changed_();
}

void Bypass::set_mesh(const model::MeshPtr& mesh) {
  bool changed = false;
  using Ptr = model::ServicePtr;
  model::BucketTable<model::Service>::for_each_change(
      mesh_->services, mesh->services, [&](const Ptr* before, const Ptr* after) {
        const bool speaks = after && (*after)->traffic.bypass != model::Bypass::kUnsaid;
        if (speaks)
          speaking_[(*after)->key] = *after;
        else if (!speaking_.erase((after ? *after : *before)->key))
          return;
        changed = true;
      });
  mesh_ = mesh;
  if (!changed) return;
  targets_ = bypass_targets(speaking_);
  targets_written_ = false;
  write_words();
}

void Bypass::set_workloads(Words words) {
  if (words == words_) return;
  words_ = std::move(words);
  words_written_ = false;
  write_words();
}

void Bypass::write_words() {
  if (!maps_ || options_.bypass == "off") return;
  absl::Status status;
  if (!targets_written_) targets_written_ = (status = maps_->set_services(targets_)).ok();
  if (status.ok() && !words_written_) words_written_ = (status = maps_->set_workloads(words_)).ok();
  if (!status.ok()) log::error("bypass", {{"words", base::message_of(status)}});
}

// Connections that have joined leave and close by the program at the cgroup: it goes with the last.
void Bypass::let_go() {
  if (std::exchange(asking_, true)) return;
  if (!background_) background_ = std::make_unique<kernel::Background>();
  background_->post([this] {
    auto gone = kernel::detach_bypass(pins_);
    boost::asio::post(control_, [this, gone] {
      asking_ = false;
      note_detached(gone);
    });
  });
}

void Bypass::note_detached(const absl::StatusOr<bool>& gone) {
  if (!gone.ok()) return log::warning("bypass", {{"error", base::message_of(gone.status())}});
  letting_go_ = !*gone;
  if (*gone) log::info("bypass", {{"mode", "off"}, {"program", "detached"}});
  if (options_.bypass != "off") return;  // why it is off matters more
  std::string reason = *gone ? "" : kLeaving;
  if (reason == status_.reason) return;
  status_.reason = std::move(reason);
  changed_();
}

void Bypass::beat() {
  if (letting_go_) let_go();
  if (others_) {
    const auto in_use = kernel::retire_other_bypasses(pins_);
    if (!in_use.ok()) log::warning("bypass", {{"error", base::message_of(in_use.status())}});
    others_ = in_use.ok() ? *in_use : others_;
  }
  if (!targets_written_ || !words_written_) write_words();
}

}  // namespace weft::app
