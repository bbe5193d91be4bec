#include "agent/observe/exporter.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include <map>
#include <span>

#include "agent/kernel/bypass.h"
#include "agent/observe/metrics.h"
#include "agent/observe/process.h"

namespace weft::observe {
namespace {

std::string text_of(const char (&name)[WEFT_NAME_MAX]) {
  return std::string(name, strnlen(name, sizeof name));
}

template <class Map>
std::uint64_t count(const Map& map) {
  std::uint64_t entries = 0;
  const auto status = map.for_each([&](const auto&, const auto&) { ++entries; });
  return status.ok() ? entries : 0;
}

std::string text_of(const model::Endpoint& endpoint) {
  const auto address = endpoint.address.to_text();
  const bool v6 = endpoint.address.family() == model::Family::kIpv6;
  return (v6 ? "[" + address + "]" : address) + ":" + std::to_string(endpoint.port);
}

// A check is of an endpoint, however many ports of its service lead there; series are of ports, as
// other endpoint metrics are. `rows` are all of one service.
void add_health(std::span<const EndpointHealth> rows, const model::Service& service,
                std::vector<HealthReading>& readings) {
  std::map<std::pair<model::Address, std::uint16_t>, bool> verdicts;
  for (const auto& row : rows)
    if (row.healthy) verdicts[{row.address, row.port}] = *row.healthy;
  for (const auto& port : service.ports) {
    if (port.protocol != model::Protocol::kTcp) continue;
    for (const auto& endpoint : port.endpoints)
      if (const auto at = verdicts.find({endpoint.address, endpoint.port}); at != verdicts.end())
        readings.push_back({service.key.namespace_name, service.key.name, port.port,
                            text_of(endpoint), at->second});
  }
}

std::vector<HealthReading> health_of(const Snapshot& snapshot) {
  std::vector<HealthReading> readings;
  const std::span<const EndpointHealth> all(*snapshot.health);
  for (std::size_t begin = 0, end = 0; begin < all.size(); begin = end) {
    while (end < all.size() && all[end].service == all[begin].service) ++end;
    if (const auto* service = snapshot.mesh->services.find(all[begin].service))
      add_health(all.subspan(begin, end - begin), **service, readings);
  }
  return readings;
}

}  // namespace

Readings readings_of(const Snapshot& snapshot, Clock::time_point now) {
  Readings readings;
  readings.proxy = snapshot.proxy_report;
  readings.bypass.enabled = snapshot.bypass.mode != "off";
  readings.bypass.reason = snapshot.bypass.why;
  readings.version = snapshot.version;
  readings.generation = snapshot.generation;
  readings.ready = snapshot.ready;
  readings.held_back = snapshot.held_back;
  readings.apply = snapshot.apply;
  readings.apply_seconds = snapshot.apply_seconds;
  readings.propagation_seconds = snapshot.propagation_seconds;
  readings.services_refused = snapshot.refused.size();
  readings.transitions = snapshot.transitions;
  readings.health = health_of(snapshot);
  readings.probes = snapshot.probes;
  readings.drained = snapshot.drained;
  for (const auto& notice : *snapshot.mesh->notices)
    ++readings.notices[static_cast<std::size_t>(notice.severity)];
  for (const auto& source : snapshot.sources) {
    SourceReading reading{source.uri, source.state};
    if (source.changed != Clock::time_point{})
      reading.age_seconds = std::chrono::duration<double>(now - source.changed).count();
    reading.errors = source.errors;
    readings.sources.push_back(std::move(reading));
  }
  for (const auto& workload : *snapshot.workloads)
    ++(workload.verdict.enrolled ? readings.workloads.enrolled : readings.workloads.others);
  return readings;
}

Exporter::Exporter(const Board& board, const kernel::Maps& maps, kernel::Pins pins,
                   ExporterOptions options)
    : board_(board),
      maps_(maps),
      pins_(std::move(pins)),
      options_(options),
      series_(options.series) {}

std::shared_ptr<const std::string> Exporter::exposition(Clock::time_point now) {
  if (!text_ || now - rendered_at_ >= options_.keep) {
    text_ = std::make_shared<const std::string>(render(collect(now)));
    rendered_at_ = now;
  }
  return text_;
}

Readings Exporter::collect(Clock::time_point now) {
  Readings readings = readings_of(*board_.read(), now);
  refresh_names();
  refresh_hash_counts(now);
  series_.collect({maps_.services.values(), maps_.service_states.values(), maps_.endpoints.values(),
                   maps_.endpoint_states.values()},
                  now, readings);
  add_maps(readings);
  if (const auto events = kernel::read_events(pins_); events.ok())
    for (std::size_t event = 0; event < events->size(); ++event)
      readings.events.push_back(
          {kernel::event_label(static_cast<weft_event>(event)), (*events)[event]});
  add_bypass(readings.bypass);
  readings.process = read_process();
  return readings;
}

// Opened for each exposition: whether there is a bypass is decided after this was made.
void Exporter::add_bypass(BypassReading& reading) const {
  const auto maps = kernel::BypassMaps::open(pins_, kernel::Access::kReadOnly);
  if (!maps.ok()) return;
  const auto counts = maps->counts();
  reading.connections = maps->totals().pairs;
  reading.bytes = counts[WEFT_BYPASS_REDIRECTED].bytes;
  for (std::size_t path = WEFT_BYPASS_REDIRECTED + 1; path < counts.size(); ++path)
    reading.fallback.emplace_back(kernel::name_of(static_cast<weft_bypass_path>(path)),
                                  counts[path].bytes);
}

void Exporter::refresh_names() {
  if (maps_.meta.size() == 0) return;
  const std::uint64_t generation = kernel::load(maps_.meta.at(0).generation);
  if (named_ && generation == named_generation_) return;
  std::vector<ServiceName> names;
  const auto status = maps_.names.for_each([&](std::uint32_t index, const weft_service_info& info) {
    names.push_back({index, text_of(info.namespace_name), text_of(info.name), ntohs(info.port),
                     info.proto == IPPROTO_UDP});
  });
  if (!status.ok()) return;  // the old names, and another try at the next scrape
  names_ = names.size();
  series_.set_names(std::move(names));
  named_ = true;
  named_generation_ = generation;
}

void Exporter::refresh_hash_counts(Clock::time_point now) {
  if (counted_ && now - counted_at_ < options_.count_hashes_every) return;
  frontends_ = count(maps_.frontends);
  labels_ = count(maps_.labels);
  affinities_ = count(maps_.affinities);
  bypass_maps_.clear();
  if (const auto maps = kernel::BypassMaps::open(pins_, kernel::Access::kReadOnly); maps.ok())
    for (const auto& map : maps->fills())
      bypass_maps_.push_back({map.name, map.entries, map.capacity});
  counted_ = true;
  counted_at_ = now;
}

void Exporter::add_maps(Readings& readings) const {
  std::uint64_t services = 0, slots = 0;
  for (const auto& record : maps_.services.values()) {
    const std::uint64_t word = kernel::load(record);
    services += word != 0;
    slots += kernel::slots_of(word, maps_.slots.values());
  }
  const auto& counts = readings.endpoint_counts;
  const std::uint64_t endpoints = counts.ready + counts.draining + counts.not_ready;
  readings.maps = {{"weft_frontends", frontends_, maps_.frontends.max_entries()},
                   {"weft_services", services, maps_.services.size()},
                   {"weft_slots", slots, maps_.slots.size()},
                   {"weft_endpoints", endpoints, maps_.endpoints.size()},
                   {"weft_names", names_, maps_.names.max_entries()},
                   {"weft_labels", labels_, maps_.labels.max_entries()},
                   {"weft_affinities", affinities_, maps_.affinities.max_entries()},
                   {"weft_workloads", readings.workloads.enrolled, maps_.workloads.max_entries()}};
  readings.maps.insert(readings.maps.end(), bypass_maps_.begin(), bypass_maps_.end());
}

}  // namespace weft::observe
