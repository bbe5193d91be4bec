#include "userspace_proxy/routes/given.h"

#include <algorithm>

#include <absl/strings/ascii.h>

#include "userspace_proxy/routes/pattern.h"

namespace weft::routes {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// What is before the first `end`; the text is then what is behind it.
std::string_view take_until(std::string_view& text, char end) {
  const auto at = text.find(end);
  const auto head = text.substr(0, at);
  text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  return head;
}

bool is_name(std::string_view key, std::string_view name) {
  if (key.find('%') == std::string_view::npos) return key == name;
  std::string decoded;
  percent_decode(key, decoded);
  return decoded == name;
}

}  // namespace

std::optional<std::string_view> header_value(const http::Fields& fields, std::string_view name,
                                             std::string& room) {
  std::optional<std::string_view> value;
  for (const auto& field : fields.all()) {
    if (field.dropped || !equals_folded(field.name, name)) continue;
    if (!value) {
      value = field.value;
      continue;
    }
    if (value->data() != room.data()) room.assign(*value);
    room.append(",").append(field.value);
    value = room;
  }
  return value;
}

std::optional<std::string_view> query_value(std::string_view query, std::string_view name,
                                            std::string& room) {
  while (!query.empty()) {
    auto value = take_until(query, '&');
    if (value.empty()) continue;
    const auto key = take_until(value, '=');
    if (!is_name(key, name)) continue;
    if (value.find('%') == std::string_view::npos) return value;
    percent_decode(value, room);
    return room;
  }
  return std::nullopt;
}

void percent_decode(std::string_view text, std::string& out) {
  out.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    out.push_back(low >= 0 ? static_cast<char>(high * 16 + low) : text[i]);
    if (low >= 0) i += 2;
  }
}

std::string_view without_port(std::string_view authority) {
  const auto colon = authority.rfind(':');
  if (colon == std::string_view::npos) return authority;
  const auto host = authority.substr(0, colon);
  const bool bracketed = !host.empty() && host.front() == '[' && host.back() == ']';
  // An address without brackets is no authority (RFC 3986 3.2.2), and its last group no port.
  if (!bracketed && host.find(':') != std::string_view::npos) return authority;
  const auto port = authority.substr(colon + 1);
  const bool digits = std::all_of(port.begin(), port.end(), absl::ascii_isdigit);
  return digits ? host : authority;
}

}  // namespace weft::routes
