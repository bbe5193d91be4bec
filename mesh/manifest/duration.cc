// Durations in manifests. Those of flags are base/duration.h's: there a bare number is seconds,
// here it is a mistake, as it is to Kubernetes and Istio.
#include "mesh/base/text.h"
#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

constexpr double kYearMs = 365.0 * 24 * 3600 * 1000;

// The unit's milliseconds; 0: no unit. Longer names first: "ms" begins like "m".
double take_unit(std::string_view& text) {
  struct Unit {
    std::string_view name;
    double ms;
  };
  static constexpr Unit kUnits[] = {{"ms", 1},   {"us", 1e-3},  {"\u00b5s", 1e-3}, {"ns", 1e-6},
                                    {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
  for (const auto& unit : kUnits)
    if (text.starts_with(unit.name)) {
      text.remove_prefix(unit.name.size());
      return unit.ms;
    }
  return 0;
}

}  // namespace

std::optional<std::chrono::milliseconds> parse_go_duration(std::string_view text) {
  double total_ms = 0;
  do {
    const auto end = std::min(text.find_first_not_of("0123456789."), text.size());
    const auto digits = text.substr(0, end);
    // from_chars would take "1.", ".5" and more: "1.5" and "15" are all that people write.
    const auto dot = digits.find('.');
    if (dot == 0 || dot + 1 == digits.size()) return std::nullopt;
    const auto number = base::parse_number<double>(digits);
    text.remove_prefix(end);
    const auto unit_ms = take_unit(text);
    if (!number || unit_ms == 0) return std::nullopt;
    total_ms += *number * unit_ms;
  } while (!text.empty());
  // NaN and infinity cannot come from digits; more digits than a double holds are over the year.
  if (!(total_ms > 0 && total_ms <= kYearMs)) return std::nullopt;
  auto whole = static_cast<std::int64_t>(total_ms);
  if (total_ms - static_cast<double>(whole) > 1e-6) ++whole;  // not 1.1s, which is 1100.0000000001
  return std::chrono::milliseconds(std::max<std::int64_t>(whole, 1));
}

std::optional<std::chrono::milliseconds> Decoder::duration(Value parent, const std::string& path,
                                                           std::string_view key) {
  const auto written = text(parent, path, key);
  if (!written) return std::nullopt;
  const auto duration = parse_go_duration(*written);
  if (!duration)
    reject(parent[key], join_path(path, key) + " " + quoted(*written) +
                            " is not a duration like 10s, 1.5s, 500ms or 1h30m, longer than 0 and "
                            "at most a year");
  return duration;
}

}  // namespace weft::manifest
