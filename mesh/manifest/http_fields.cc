#include "mesh/manifest/http_fields.h"

#include <re2/re2.h>

#include <algorithm>

#include "mesh/manifest/text_reader.h"
#include "mesh/model/http.h"

namespace weft::manifest {
namespace {

// Far more than anybody writes by hand.
constexpr std::size_t kMostRegexBytes = 1024;
constexpr std::int64_t kMostRegexMemory = 1 << 20;  // while it is checked

RE2::Options options() {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kMostRegexMemory);
  // As the proxy reads them: bytes, whatever they are.
  options.set_encoding(RE2::Options::EncodingLatin1);
  options.set_dot_nl(true);
  return options;
}

// RFC 9110 5.6.2.
bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
}

}  // namespace

bool check_regex(Decoder& decoder, Value at, const std::string& path, const std::string& regex) {
  if (regex.size() > kMostRegexBytes) {
    decoder.reject(at, path + " is longer than " + std::to_string(kMostRegexBytes) + " bytes");
    return false;
  }
  const RE2 compiled(regex, options());
  if (compiled.ProgramSize() > static_cast<int>(model::kRegexBudget)) {
    decoder.reject(at, path + " " + quoted(regex) + " needs more than " +
                           std::to_string(model::kRegexBudget) + " instructions of RE2");
    return false;
  }
  if (compiled.ok()) return true;
  decoder.reject(at, path + " " + quoted(regex) +
                         " is not a regular expression of RE2: " + cleaned(compiled.error(), 120));
  return false;
}

bool check_replacement(Decoder& decoder, Value at, const std::string& path,
                       const std::string& regex, const std::string& text) {
  const RE2 compiled(regex, options());
  std::string error;
  if (compiled.CheckRewriteString(text, &error) && !has_control(text)) return true;
  decoder.reject(at, path + " " + quoted(text) + " cannot replace what the expression matches: " +
                         (error.empty() ? "it has a control character" : cleaned(error, 120)));
  return false;
}

bool check_header_name(Decoder& decoder, Value at, const std::string& path, std::string_view name) {
  if (is_token(name) && name.size() <= 256) return true;
  decoder.reject(at, path + " " + quoted(name) + " is not a header's name");
  return false;
}

bool check_header_value(Decoder& decoder, Value at, const std::string& path,
                        std::string_view value) {
  if (has_control(value)) {
    decoder.reject(at, path + " " + quoted(value) + " has a control character");
    return false;
  }
  // Envoy fills in %REQ(...)% and its kin.
  const auto percent = value.find('%');
  if (percent != value.npos && percent + 1 < value.size() && value[percent + 1] >= 'A' &&
      value[percent + 1] <= 'Z')
    decoder.not_enforced(at, path + " " + quoted(value),
                         "variables are not filled in, the value is sent as it is written");
  return true;
}

bool check_authority(Decoder& decoder, Value at, const std::string& path, std::string_view text) {
  const bool good =
      !text.empty() && text.size() <= 255 && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view("-._~:[]").find(c) != std::string_view::npos;
      });
  if (!good) decoder.reject(at, path + " " + quoted(text) + " is not HOST or HOST:PORT");
  return good;
}

std::string in_lower_case(std::string_view text) {
  std::string lower(text);
  for (auto& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

std::optional<std::chrono::milliseconds> decode_timeout(Decoder& decoder, Value parent,
                                                        const std::string& path,
                                                        std::string_view key) {
  const Value value = parent[key];
  if (value.type() == Type::kString) {
    // A zero duration is a duration whose digits are all 0.
    std::string text(value.text());
    const auto zero = text.find('0');
    if (zero != text.npos && text.find_first_of("123456789") == text.npos) {
      text[zero] = '1';
      if (parse_go_duration(text)) return std::chrono::milliseconds(0);
    }
  }
  return decoder.duration(parent, path, key);
}

std::uint32_t index_of(std::vector<model::HttpBackend>& backends, model::HttpBackend backend) {
  const auto fields = [](const model::HttpBackend& b) {
    return std::tie(b.host, b.subset, b.port, b.missing);
  };
  const auto known = std::find_if(backends.begin(), backends.end(), [&](const auto& other) {
    return fields(other) == fields(backend);
  });
  const auto index = static_cast<std::uint32_t>(known - backends.begin());
  if (known == backends.end()) backends.push_back(std::move(backend));
  return index;
}

}  // namespace weft::manifest
