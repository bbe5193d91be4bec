// loadBalancer.localityLbSetting. A locality is "region/zone/subzone" with ends left out or "*";
// what cannot be compared in a node, a caller's labels, is reported.
#include "mesh/base/text.h"
#include "mesh/manifest/text_reader.h"
#include "mesh/manifest/traffic_policy.h"
#include "mesh/model/failover.h"

namespace weft::manifest {
namespace {

// "*" stands alone or last, as Istio demands; there are at most three parts and none is empty.
bool is_locality(std::string_view text) {
  for (int parts = 0; parts < 3; ++parts) {
    const auto slash = text.find('/');
    const auto part = text.substr(0, slash);
    if (part.empty() || (part.find('*') != part.npos && part != "*")) return false;
    if (slash == text.npos) return true;
    if (part == "*") return false;
    text.remove_prefix(slash + 1);
  }
  return false;
}

void check_locality(Decoder& decoder, Value at, std::string_view text, const std::string& path) {
  if (!is_locality(text))
    decoder.reject(at, path + " " + quoted(text) +
                           " is not a locality like region, region/zone, region/zone/* or *");
}

void decode_distribute(Decoder& decoder, Value value, const std::string& path,
                       model::LocalityPolicy& policy) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::LocalityPolicy::Distribute distribute;
  distribute.from = decoder.text(value, path, "from").value_or("");
  if (distribute.from.empty())
    decoder.reject(value, path + ".from is missing");
  else
    check_locality(decoder, value["from"], distribute.from, path + ".from");
  std::int64_t sum = 0;
  const Value to = decoder.mapping(value, path, "to");
  const auto of_to = join_path(path, "to");
  for (const Value entry : to) {
    const auto where = join_path(of_to, cleaned(entry.key(), 80));
    check_locality(decoder, entry, entry.key(), where);
    const auto percent = decoder.integer(to, of_to, entry.key(), 1, 100).value_or(0);
    distribute.to.emplace(entry.key(), static_cast<std::uint32_t>(percent));
    sum += percent;
  }
  if (!decoder.rejected() && sum != 100)
    decoder.reject(value, path + ".to: percents make " + std::to_string(sum) + ", not 100");
  decoder.unknown_fields(value, path, {"from", "to"});
  policy.distribute.push_back(std::move(distribute));
}

void decode_failover(Decoder& decoder, Value value, const std::string& path,
                     model::LocalityPolicy& policy) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  const auto region = [&](std::string_view key) {
    const auto text = decoder.text(value, path, key).value_or("");
    if (text.empty() || text.find_first_of("/*") != text.npos)
      decoder.reject(value, join_path(path, key) + " " + quoted(text) + " is not a region's name");
    return text;
  };
  auto from = region("from"), to = region("to");
  if (!decoder.rejected() && from == to)
    decoder.reject(value, path + " leads from " + quoted(from) + " to itself");
  decoder.unknown_fields(value, path, {"from", "to"});
  policy.failover.emplace_back(std::move(from), std::move(to));
}

void decode_priority(Decoder& decoder, Value value, const std::string& path,
                     model::LocalityPolicy& policy) {
  if (!decoder.is(value, Type::kString, path)) return;
  const auto label = model::failover_label(value.text());
  const auto where = path + " " + quoted(value.text());
  if (label.key.empty() || (label.value && label.value->find('=') != label.value->npos))
    return decoder.reject(value, where + " is neither LABEL nor LABEL=VALUE");
  if (!label.value && !model::is_place(label.key))
    return decoder.not_enforced(value, where,
                                "callers of one node have different labels; write LABEL=VALUE, or "
                                "topology.kubernetes.io/region, topology.kubernetes.io/zone, "
                                "topology.istio.io/subzone or kubernetes.io/hostname");
  for (const auto& before : policy.failover_priority)
    if (model::failover_label(before).key == label.key)
      decoder.warn(value, where +
                              " names a label that is there before: each entry is compared, where "
                              "Istio takes the last value for all");
  policy.failover_priority.emplace_back(value.text());
}

}  // namespace

model::LocalityPolicy decode_locality(Decoder& decoder, Value setting, const std::string& path) {
  model::LocalityPolicy policy;
  policy.enabled = decoder.boolean(setting, path, "enabled").value_or(true);
  const auto each = [&](std::string_view key, auto&& decode) {
    std::size_t index = 0;
    for (const Value entry : decoder.sequence(setting, path, key))
      decode(decoder, entry, join_path(path, key, index++), policy);
  };
  each("distribute", decode_distribute);
  each("failover", decode_failover);
  each("failoverPriority", decode_priority);
  if (setting["distribute"].present() &&
      (setting["failover"].present() || setting["failoverPriority"].present()))
    decoder.reject(setting, path +
                                " has distribute beside failover or failoverPriority: it is "
                                "one of the two");
  decoder.others_not_enforced(setting, path,
                              {"enabled", "distribute", "failover", "failoverPriority"});
  return policy;
}

}  // namespace weft::manifest
