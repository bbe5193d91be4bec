#include "mesh/manifest/yaml_scalar.h"

#include <algorithm>
#include <initializer_list>

namespace weft::manifest {
namespace {

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> all) {
  return std::find(all.begin(), all.end(), text) != all.end();
}

bool only(std::string_view text, std::string_view allowed) {
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

// 12, 1_000, 1.5, .5, 1e9: at least one digit, one point, one exponent with digits.
bool is_decimal(std::string_view text) {
  const auto exponent = text.find_first_of("eE");
  if (exponent != std::string_view::npos) {
    auto power = text.substr(exponent + 1);
    if (!power.empty() && (power[0] == '-' || power[0] == '+')) power.remove_prefix(1);
    if (!only(power, "0123456789")) return false;
    text = text.substr(0, exponent);
  }
  if (text.find_first_of("0123456789") == std::string_view::npos || text[0] == '_') return false;
  return only(text, "0123456789._") && std::count(text.begin(), text.end(), '.') <= 1;
}

bool is_number(std::string_view text) {
  if (!only(text.substr(0, 1), "+-.0123456789")) return false;
  if (is_one_of(text, {".nan", ".NaN", ".NAN"})) return true;
  if (text[0] == '-' || text[0] == '+') text.remove_prefix(1);
  if (text.empty()) return false;
  if (is_one_of(text, {".inf", ".Inf", ".INF"})) return true;
  if (text.starts_with("0x")) return only(text.substr(2), "0123456789abcdefABCDEF_");
  if (text.starts_with("0o")) return only(text.substr(2), "01234567_");
  if (text.starts_with("0b")) return only(text.substr(2), "01_");
  return is_decimal(text);
}

}  // namespace

bool plain_truth(std::string_view text) {
  return is_one_of(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"});
}

Type plain_type(std::string_view text) {
  constexpr std::size_t kLongestWord = 5;  // "false"; most scalars are longer
  if (text.size() > kLongestWord) return is_number(text) ? Type::kNumber : Type::kString;
  if (text.empty() || is_one_of(text, {"~", "null", "Null", "NULL"})) return Type::kNull;
  if (plain_truth(text)) return Type::kBool;
  if (is_one_of(text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"}))
    return Type::kBool;
  return is_number(text) ? Type::kNumber : Type::kString;
}

}  // namespace weft::manifest
