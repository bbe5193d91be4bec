#include <array>
#include <cstring>

#include "userspace_proxy/http/chars.h"
#include "userspace_proxy/http/message.h"

namespace weft::http {
namespace {

// `text` in lower case; `letters` has the bit that tells the cases apart where text has a letter,
// so that (name | letters) == text compares in any case, and eight bytes at a time.
struct Name {
  constexpr Name(std::string_view of, Known is) : size(of.size()), known(is) {
    for (std::size_t i = 0; i < size; ++i) {
      text[i] = of[i];
      letters[i] = of[i] >= 'a' && of[i] <= 'z' ? 0x20 : 0;
    }
  }

  template <class Word>
  bool matches(const char* name, std::size_t at) const {
    Word word, want, mask;
    std::memcpy(&word, name + at, sizeof word);
    std::memcpy(&want, text.data() + at, sizeof want);
    std::memcpy(&mask, letters.data() + at, sizeof mask);
    return (word | mask) == want;
  }
  bool matches(const char* name) const {
    if (size > 8)
      return matches<std::uint64_t>(name, 0) && matches<std::uint64_t>(name, size - 8) &&
             (size <= 16 || matches<std::uint64_t>(name, 8));
    if (size >= 4) return matches<std::uint32_t>(name, 0) && matches<std::uint32_t>(name, size - 4);
    return matches<std::uint16_t>(name, 0) && matches<std::uint16_t>(name, size - 2);
  }

  std::array<char, 24> text{}, letters{};
  std::size_t size;
  Known known;
};

constexpr Name kNames[] = {
    {"host", Known::kHost},
    {"connection", Known::kConnection},
    {"keep-alive", Known::kKeepAlive},
    {"proxy-connection", Known::kProxyConnection},
    {"transfer-encoding", Known::kTransferEncoding},
    {"content-length", Known::kContentLength},
    {"te", Known::kTe},
    {"trailer", Known::kTrailer},
    {"upgrade", Known::kUpgrade},
    {"expect", Known::kExpect},
    {"date", Known::kDate},
    {"server", Known::kServer},
    {"via", Known::kVia},
    {"origin", Known::kOrigin},
    {"user-agent", Known::kUserAgent},
    {"x-forwarded-for", Known::kForwardedFor},
    {"x-forwarded-proto", Known::kForwardedProto},
    {"x-request-id", Known::kRequestId},
    {"traceparent", Known::kTraceParent},
    {"tracestate", Known::kTraceState},
    {"b3", Known::kB3},
    {"http2-settings", Known::kHttp2Settings},
    {"proxy-authenticate", Known::kProxyAuthenticate},
    {"proxy-authorization", Known::kProxyAuthorization},
};
constexpr std::size_t kLongest = 19;

constexpr std::size_t slot_of(std::string_view name) {
  return name.size() * 32 + (static_cast<std::uint8_t>(name.front()) & 31);
}

// Length and first letter tell the names apart, whatever the case: so one lookup and one comparison
// tell whether a name is known. Two names in one slot do not compile.
constexpr auto table() {
  std::array<std::uint8_t, (kLongest + 1) * 32> slots{};
  std::uint8_t number = 0;
  for (const auto& name : kNames) {
    auto& slot = slots[slot_of({name.text.data(), name.size})];
    if (slot) throw "two known names share a slot";
    slot = ++number;
  }
  return slots;
}
constexpr auto kSlots = table();

}  // namespace

Known known_of(std::string_view name) {
  if (name.empty() || name.size() > kLongest) return Known::kOther;
  const auto number = kSlots[slot_of(name)];
  if (!number || !kNames[number - 1].matches(name.data())) return Known::kOther;
  return kNames[number - 1].known;
}

bool Fields::grow() {
  constexpr std::size_t kUsual = 20 + kRoom, kMost = kMaxFields + kRoom;
  if (fields_.size() >= kMost) return false;
  fields_.reserve(fields_.capacity() < kUsual ? kUsual : kMost);
  return true;
}

const Field* Fields::find(std::string_view name) const {
  for (const auto& field : fields_)
    if (!field.dropped && equal_ignoring_case(field.name, name)) return &field;
  return nullptr;
}

const Field* Fields::find(Known known) const {
  for (const auto& field : fields_)
    if (!field.dropped && field.known == known) return &field;
  return nullptr;
}

}  // namespace weft::http
