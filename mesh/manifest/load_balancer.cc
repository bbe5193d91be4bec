// trafficPolicy.loadBalancer: which endpoint gets a connection, and how new ones warm up.
#include "mesh/manifest/text_reader.h"
#include "mesh/manifest/traffic_policy.h"

namespace weft::manifest {
namespace {

void decode_simple(Decoder& decoder, Value balancer, const std::string& path,
                   std::optional<model::Balancer>& chosen) {
  const auto simple = decoder.text(balancer, path, "simple").value_or("UNSPECIFIED");
  const Value at = balancer["simple"];
  const auto where = join_path(path, "simple");
  if (simple == "ROUND_ROBIN")
    chosen = model::Balancer::kRoundRobin;
  else if (simple == "RANDOM")
    chosen = model::Balancer::kRandom;
  else if (simple == "LEAST_REQUEST" || simple == "LEAST_CONN")
    chosen = model::Balancer::kLeastRequest;
  else if (simple != "UNSPECIFIED")
    decoder.not_enforced(at, where + " " + quoted(simple),
                         "this build has ROUND_ROBIN, RANDOM and LEAST_REQUEST");
  if (simple == "LEAST_CONN")
    decoder.warn(at, where + " LEAST_CONN is deprecated: write LEAST_REQUEST");
}

// Maglev unless a ring is asked for: it shares more evenly, and Istio's own default (a ring of
// 1,024) promises nothing that it does not keep. Sizes of tables are ours: they follow the number
// of endpoints, up to what the kernel's record counts.
void decode_hash(Decoder& decoder, Value balancer, const std::string& path,
                 std::optional<model::Balancer>& chosen) {
  const Value hash = decoder.mapping(balancer, path, "consistentHash");
  const auto of_hash = join_path(path, "consistentHash");
  const Value ring = decoder.mapping(hash, of_hash, "ringHash");
  const Value maglev = decoder.mapping(hash, of_hash, "maglev");
  if (ring.present() && maglev.present())
    decoder.reject(ring, of_hash + " has both ringHash and maglev: it is one of the two");
  const bool ring_wanted = ring.present() || hash["minimumRingSize"].present();
  if (decoder.boolean(hash, of_hash, "useSourceIp").value_or(false))
    chosen = ring_wanted ? model::Balancer::kRingHash : model::Balancer::kSourceHash;
  const std::string sizes = "tables are sized by the number of endpoints, from 251 to 65521 slots";
  decoder.others_not_enforced(ring, join_path(of_hash, "ringHash"), {}, sizes);
  decoder.others_not_enforced(maglev, join_path(of_hash, "maglev"), {}, sizes);
  if (hash["minimumRingSize"].present())
    decoder.not_enforced(hash["minimumRingSize"], join_path(of_hash, "minimumRingSize"), sizes);
  decoder.others_not_enforced(hash, of_hash,
                              {"useSourceIp", "ringHash", "maglev", "minimumRingSize"},
                              "this build hashes the source (useSourceIp) only");
}

void decode_warmup(Decoder& decoder, Value balancer, const std::string& path,
                   model::TrafficRule& rule) {
  const auto old_name = decoder.duration(balancer, path, "warmupDurationSecs");
  if (old_name) rule.warmup = model::Warmup{.duration = *old_name};
  const Value value = decoder.mapping(balancer, path, "warmup");
  if (!value.present()) return;
  const auto where = join_path(path, "warmup");
  model::Warmup warmup;
  if (!value["duration"].present()) decoder.reject(value, where + ".duration is missing");
  if (const auto duration = decoder.duration(value, where, "duration")) warmup.duration = *duration;
  if (const auto minimum = decoder.number(value, where, "minimumPercent", 100))
    warmup.minimum_percent = static_cast<std::uint8_t>(*minimum + 0.5);
  const auto aggression = decoder.number(value, where, "aggression", 1000);
  if (aggression && *aggression != 1.0)
    decoder.not_enforced(value["aggression"], where + ".aggression",
                         "shares grow evenly, which is an aggression of 1");
  decoder.others_not_enforced(value, where, {"duration", "minimumPercent", "aggression"});
  rule.warmup = warmup;
}

}  // namespace

void decode_load_balancer(Decoder& decoder, Value value, const std::string& path,
                          std::optional<model::Balancer>& balancer, model::TrafficRule& traffic) {
  decode_simple(decoder, value, path, balancer);
  decode_hash(decoder, value, path, balancer);
  decode_warmup(decoder, value, path, traffic);
  if (const Value setting = decoder.mapping(value, path, "localityLbSetting"); setting.present())
    traffic.locality = decode_locality(decoder, setting, join_path(path, "localityLbSetting"));
  decoder.others_not_enforced(
      value, path,
      {"simple", "consistentHash", "warmup", "warmupDurationSecs", "localityLbSetting"});
}

}  // namespace weft::manifest
