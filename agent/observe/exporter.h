// The edge of the metrics: reads the mapped arrays, the names, the snapshot and /proc into Readings
// and renders them. Belongs to the thread that serves HTTP.
//
// A scrape walks memory, not hashes: names are read again when the configuration has another
// generation, hash maps are counted every few seconds at most.
#pragma once

#include <memory>
#include <string>

#include "agent/kernel/maps.h"
#include "agent/observe/readings.h"
#include "agent/observe/series.h"
#include "agent/observe/snapshot.h"

namespace weft::observe {

struct ExporterOptions {
  SeriesOptions series;
  std::chrono::milliseconds keep =
      std::chrono::milliseconds(100);  // a storm of scrapes costs one rendering
  std::chrono::seconds count_hashes_every = std::chrono::seconds(10);
};

class Exporter {
 public:
  // All outlive the exporter; `maps` is never replaced meanwhile.
  Exporter(const Board& board, const kernel::Maps& maps, kernel::Pins pins,
           ExporterOptions options = {});

  // Never null.
  std::shared_ptr<const std::string> exposition(Clock::time_point now);
  Readings collect(Clock::time_point now);

 private:
  void add_bypass(BypassReading& reading) const;
  void refresh_names();
  void refresh_hash_counts(Clock::time_point now);
  void add_maps(Readings& readings) const;

  const Board& board_;
  const kernel::Maps& maps_;
  kernel::Pins pins_;
  ExporterOptions options_;
  Series series_;
  bool named_ = false;
  std::uint64_t named_generation_ = 0;
  std::vector<MapReading> bypass_maps_;
  std::uint64_t names_ = 0, frontends_ = 0, labels_ = 0, affinities_ = 0;  // entries
  bool counted_ = false;
  Clock::time_point counted_at_{};
  std::shared_ptr<const std::string> text_;
  Clock::time_point rendered_at_{};
};

// The part of the readings that comes from the snapshot alone. Pure.
Readings readings_of(const Snapshot& snapshot, Clock::time_point now);

}  // namespace weft::observe
