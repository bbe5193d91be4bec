#pragma once

#include <chrono>
#include <utility>

#include "agent/kernel/writer.h"

namespace weft::app {

// How long the map writes themselves took: what a slow apply is asked first.
class TimedSink : public kernel::MapSink {
 public:
  TimedSink(kernel::Maps& maps, kernel::MapWriter::BreakerMoved moved)
      : writer_(maps, std::move(moved)) {}
  absl::Status write(std::span<const reconcile::MapOp> ops) override {
    const auto begin = std::chrono::steady_clock::now();
    auto status = writer_.write(ops);
    last = std::chrono::steady_clock::now() - begin;
    return status;
  }
  std::chrono::steady_clock::duration last{};

 private:
  kernel::MapWriter writer_;
};

}  // namespace weft::app
