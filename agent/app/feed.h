// The sources and what they say, before anybody acts on it: an agent that takes a node over listens
// first and asks for the node when it knows the whole mesh. Control thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/app/options.h"
#include "agent/observe/snapshot.h"
#include "control_plane/sources/source.h"
#include "mesh/model/merge.h"

namespace weft::app {

class Feed {
 public:
  using UnitPtr = std::shared_ptr<const model::Unit>;
  struct Listener {
    // Units that tell of pods and namespaces; null: gone.
    std::function<void(const std::string& name, const UnitPtr& unit)> pods;
    // A source has said something, or its status changed.
    std::function<void(const std::string& uri, sources::Clock::time_point first_event)> batch;
  };

  Feed(boost::asio::io_context& control, const Options& options);

  // Sources speak from now on, once the control thread runs.
  void start();
  // Replaces the listener; pods() is called for all that is known already.
  void listen(Listener listener);

  bool all_synced() const;
  const std::vector<std::unique_ptr<sources::Source>>& sources() const { return sources_; }
  // Each source as people read it. `begun`: something was written already.
  std::vector<observe::SourceStatus> told(bool begun) const;
  model::MeshPtr build() { return merger_.build(); }

 private:
  boost::asio::io_context& control_;
  const Options& options_;
  Listener listener_;
  model::Merger merger_;
  std::map<std::string, UnitPtr> pods_;  // units with a Pod or a Namespace
  std::vector<std::unique_ptr<sources::Source>> sources_;
};

}  // namespace weft::app
