#include "mesh/manifest/notices.h"

#include <algorithm>
#include <numeric>

#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

// The longest good object, "EndpointSlice NAMESPACE/NAME", fits; no message of ours is longer.
constexpr std::size_t kMaxObject = 400, kMaxMessage = 500;

// The code point at `at` and its length; input is valid UTF-8, as every reader checks first.
std::pair<char32_t, std::size_t> decode(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  char32_t point = length == 1 ? lead : lead & (0x7f >> length);
  for (std::size_t i = 1; i < length && at + i < text.size(); ++i)
    point = point << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3f);
  return {point, length};
}

bool moves_something(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) ||
         (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

}  // namespace

std::string cleaned(std::string_view text, std::size_t most) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto [point, length] = decode(text, at);
    if (at + length > most) return out + "...";
    const auto bytes = text.substr(at, length);
    if (moves_something(point)) {
      for (const unsigned char c : bytes) out += {'\\', 'x', kHex[c >> 4], kHex[c & 15]};
    } else {
      out += bytes;
    }
    at += length;
  }
  return out;
}

std::string quoted(std::string_view text) { return "\"" + cleaned(text, 80) + "\""; }

void Notices::add(model::Severity severity, int line, const std::string& object,
                  const std::string& message) {
  if (++counts_[static_cast<std::size_t>(severity)] > kMaxNotices) return;
  notices_.push_back(
      {severity, origin(line), cleaned(object, kMaxObject), cleaned(message, kMaxMessage)});
}

std::vector<model::Notice> Notices::take() {
  const auto total = std::accumulate(counts_.begin(), counts_.end(), std::size_t{0});
  if (total > kMaxNotices) {
    std::stable_sort(notices_.begin(), notices_.end(),
                     [](const auto& a, const auto& b) { return a.severity > b.severity; });
    notices_.resize(kMaxNotices);
    // As bad as the worst it stands for, so that nobody takes it for harmless.
    std::size_t severity = counts_.size() - 1, room = kMaxNotices;
    while (counts_[severity] <= room) room -= counts_[severity--];
    notices_.push_back({static_cast<model::Severity>(severity), origin(0), "",
                        "and " + std::to_string(total - kMaxNotices) + " more of this file"});
  }
  return std::move(notices_);
}

}  // namespace weft::manifest
