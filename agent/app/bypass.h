// The same-node bypass, as the agent runs it: loaded with the data path, allowed by a self-test on
// this very kernel, told what services and workloads say. Wiring; agent/kernel/bypass.h does the
// work. Control thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/app/options.h"
#include "agent/bypass/self_test.h"
#include "agent/kernel/background.h"
#include "agent/kernel/bypass.h"
#include "agent/observe/snapshot.h"
#include "mesh/model/mesh.h"

namespace weft::app {

// Services with an annotation weft.mesh/bypass: few of many.
using Speaking = std::map<model::ServiceKey, model::ServicePtr>;

// Their endpoints by address; where two services share one, "off" wins.
std::vector<kernel::BypassTarget> bypass_targets(const Speaking& speaking);

// What is kept of the self-test.
std::string self_test_file(const Options& options);

class Bypass {
 public:
  using Words = std::map<std::uint64_t, weft_bypass_word>;  // by network namespace cookie

  // References outlive this; `changed` when status() did.
  Bypass(boost::asio::io_context& control, const Options& options, std::function<void()> changed);

  // Once the data path is in force. Whatever fails here leaves connections with TCP, and status()
  // says why. What an earlier weftd put in force stays as it is until the self-test has spoken.
  void start();
  void set_mesh(const model::MeshPtr& mesh);
  void set_workloads(Words words);
  // Once a second: writes again what failed, tidies what an earlier weftd or an earlier mode left.
  void beat();

  const observe::BypassStatus& status() const { return status_; }
  // What weft-proxy's sockets are marked in; -1 where there is no bypass.
  int readers_fd() const { return maps_ ? maps_->readers_fd() : -1; }

 private:
  void turn_off(const char* why, std::string reason);
  void let_go();
  void note_detached(const absl::StatusOr<bool>& gone);
  void test_then_turn_on();
  void take(const bypass::SelfTest& result);
  void write_words();

  boost::asio::io_context& control_;
  const Options& options_;
  kernel::Pins pins_;
  std::function<void()> changed_;
  std::optional<kernel::BypassMaps> maps_;
  observe::BypassStatus status_;
  std::vector<kernel::BypassTarget> targets_;
  model::MeshPtr mesh_ = std::make_shared<model::Mesh>();
  Speaking speaking_;
  Words words_;
  std::size_t others_ = 1;   // layouts that an earlier weftd left and sockets still use, at most
  bool letting_go_ = false;  // off, and its program still hangs on the cgroup
  bool asking_ = false;      // ... and whether it may go is being looked at
  bool targets_written_ = true, words_written_ = true;
  // Of the self-test, which takes a second, and of grace periods: what the reconciler frees does
  // not wait behind them. Last: its tasks use the rest.
  std::unique_ptr<kernel::Background> background_;
};

}  // namespace weft::app
