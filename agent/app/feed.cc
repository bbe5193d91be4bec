#include "agent/app/feed.h"

#include "control_plane/sources/registry.h"

namespace weft::app {
namespace {

bool tells_of_pods(const model::Unit& unit) {
  return std::any_of(unit.objects.begin(), unit.objects.end(), [](const auto& object) {
    return std::holds_alternative<model::PodObject>(*object) ||
           std::holds_alternative<model::NamespaceObject>(*object);
  });
}

}  // namespace

Feed::Feed(boost::asio::io_context& control, const Options& options)
    : control_(control), options_(options) {}

void Feed::start() {
  for (const auto& uri : options_.sources) {
    sources::Events events;
    events.unit = [this, uri](const std::string& path, UnitPtr unit) {
      const std::string name = uri + "#" + path;
      if (unit && tells_of_pods(*unit)) {
        pods_[name] = unit;
        if (listener_.pods) listener_.pods(name, unit);
      } else if (pods_.erase(name) && listener_.pods) {
        listener_.pods(name, nullptr);
      }
      merger_.set(name, std::move(unit));
    };
    events.batch = [this, uri](sources::Clock::time_point first_event) {
      if (listener_.batch) listener_.batch(uri, first_event);
    };
    sources_.push_back(
        sources::make_source(control_, uri, {options_.node_name}, std::move(events)));
  }
  for (auto& source : sources_) source->start();
}

void Feed::listen(Listener listener) {
  listener_ = std::move(listener);
  if (!listener_.pods) return;
  for (const auto& [name, unit] : pods_) listener_.pods(name, unit);
}

std::vector<observe::SourceStatus> Feed::told(bool begun) const {
  std::vector<observe::SourceStatus> list;
  for (const auto& source : sources_) {
    const auto& status = source->status();
    // People who wonder why something is still there must not have to guess.
    const std::string kept =
        begun && !status.synced ? (status.error.empty() ? "" : "; ") +
                                      std::string("until it has been read whole nothing is removed")
                                : "";
    list.push_back({source->uri(),
                    !status.error.empty() ? "error"
                    : status.synced       ? "synced"
                                          : "starting",
                    status.error + kept, status.changed, status.updates, status.errors});
  }
  return list;
}

bool Feed::all_synced() const {
  return std::all_of(sources_.begin(), sources_.end(),
                     [](const auto& source) { return source->status().synced; });
}

}  // namespace weft::app
