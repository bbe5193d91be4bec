// Which byte may stand where: one table for RFC 9110 5.6.2 (tokens) and RFC 3986 (targets, hosts,
// paths), since the hot loops of the codec are all "is every byte of this one of those".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weft::http {

enum CharClass : std::uint8_t {
  kTokenChar = 1,
  kTargetChar = 2,      // visible ASCII but '#': a fragment never belongs into a request
  kHostChar = 4,        // of a registered name or IPv4; no ',' (joined duplicates), no '%'
  kPathChar = 8,        // what a path may hold raw, but '%'
  kUnreservedChar = 16  // RFC 3986 2.3
};

namespace detail {

constexpr std::array<std::uint8_t, 256> classes() {
  std::array<std::uint8_t, 256> table{};
  const auto mark = [&](std::string_view bytes, unsigned as) {
    for (const char c : bytes) table[static_cast<std::uint8_t>(c)] |= as;
  };
  for (unsigned c = 0x21; c < 0x7f; ++c)
    if (c != '#') table[c] |= kTargetChar;
  constexpr unsigned kAll = kTokenChar | kHostChar | kPathChar | kUnreservedChar;
  mark("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~", kAll);
  mark("!#$%&'*+^`|", kTokenChar);
  mark("!$&'()*+;=", kHostChar | kPathChar);
  // The last four are not RFC 3986's, but clients that follow the WHATWG's URL standard, browsers
  // among them, send them raw.
  mark(",:@/[]|^", kPathChar);
  return table;
}

inline constexpr auto kClasses = classes();

}  // namespace detail

constexpr bool is(char c, CharClass of) {
  return detail::kClasses[static_cast<std::uint8_t>(c)] & of;
}

constexpr bool are_all(std::string_view text, CharClass of) {
  for (const char c : text)
    if (!is(c, of)) return false;
  return true;
}

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

// -1 where it is none.
constexpr int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

constexpr char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

constexpr bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (to_lower(a[i]) != to_lower(b[i])) return false;
  return true;
}

constexpr bool is_blank(char c) { return c == ' ' || c == '\t'; }

constexpr std::string_view without_blanks(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// Takes the next element off a comma-separated list (RFC 9110 5.6.1); elements may be empty.
constexpr std::string_view take_element(std::string_view& list) {
  const auto comma = list.find(',');
  const auto element = without_blanks(list.substr(0, comma));
  list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  return element;
}

}  // namespace weft::http
