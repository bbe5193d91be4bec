// The proxy's control thread: what weftd says becomes configuration of the workers, and weftd hears
// how they are. When weftd is gone the proxy serves on with what it has, until it is asked to end
// (SIGTERM) or replaced.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <weft/v1/proxy.pb.h>
#include "mesh/base/fd.h"
#include "mesh/wire/frame.h"
#include "userspace_proxy/net/config_builder.h"
#include "userspace_proxy/net/loop.h"
#include "userspace_proxy/net/worker.h"

namespace weft::net {

class Control final : public Loop::Watcher {
 public:
  struct Workers {
    std::function<void(std::function<void(Worker&)>)> each;  // runs on every worker's thread
    std::size_t count = 0;
  };

  // `channel`: to weftd; none: nobody tells anything. `beat`: a word for the kernel's programs, who
  // look at it when weftd cannot; may be null.
  Control(Loop& loop, base::Fd channel, ConfigBuilder builder, Workers workers,
          std::uint64_t* beat_ns = nullptr);

  // Then the loop is stopped. Again: the deadline may only come nearer.
  void drain(std::uint64_t deadline_ms);
  void tell(weft::v1::FromProxy message);  // from any thread
  void apply(const weft::v1::Config& message);

 private:
  void on_ready(std::uint32_t events) override;
  void read();
  void on_message(const weft::v1::ToProxy& message);
  void on_workload(const weft::v1::Workload& message);
  void answer(std::uint64_t number);
  void beat();
  void send(const weft::v1::FromProxy& message);
  void flush();

  Loop& loop_;
  base::Fd channel_;
  ConfigBuilder builder_;
  Workers workers_;
  wire::FrameReader frames_;
  std::deque<base::Fd> descriptors_;  // that came and were not named yet
  std::string out_;
  std::uint64_t* beat_ns_;
  Timer beat_, drain_timer_;
  bool draining_ = false;
  std::uint64_t drain_until_ms_ = 0;
};

}  // namespace weft::net
