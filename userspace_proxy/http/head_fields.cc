#include "userspace_proxy/http/head_fields.h"

#include <algorithm>
#include <array>

#include "userspace_proxy/http/chars.h"

namespace weft::http {
namespace {

constexpr std::uint16_t kBadRequest = 400, kTooLarge = 431, kNotImplemented = 501;

// Of names that Known does not have.
constexpr std::array<std::string_view, 20> kNotInTrailers{"authorization",
                                                          "cache-control",
                                                          "content-encoding",
                                                          "content-location",
                                                          "content-range",
                                                          "content-type",
                                                          "cookie",
                                                          "forwarded",
                                                          "if-match",
                                                          "if-modified-since",
                                                          "if-none-match",
                                                          "if-range",
                                                          "if-unmodified-since",
                                                          "location",
                                                          "max-forwards",
                                                          "pragma",
                                                          "range",
                                                          "set-cookie",
                                                          "vary",
                                                          "www-authenticate"};

Fault read_field(std::string_view line, Fields& fields) {
  std::size_t colon = 0;
  while (colon < line.size() && is(line[colon], kTokenChar)) ++colon;
  if (colon == line.size()) return {kBadRequest, "field without a colon"};
  if (line[colon] != ':') {
    if (!is_blank(line[colon])) return {kBadRequest, "field name is not a token"};
    return {kBadRequest, colon ? "white space before a colon" : "folded field"};
  }
  if (colon == 0) return {kBadRequest, "field without a name"};
  const auto name = line.substr(0, colon);
  if (!fields.add(name, without_blanks(line.substr(colon + 1)), known_of(name)))
    return {kTooLarge, "too many fields"};
  return {};
}

Fault read_length(std::string_view value, std::uint64_t& length) {
  constexpr std::size_t kMostDigits = 18;  // no body has 10^18 bytes, and it cannot overflow
  length = 0;
  if (value.empty()) return {kBadRequest, "empty Content-Length"};
  if (value.size() > kMostDigits) return {kBadRequest, "Content-Length is too large"};
  for (const char c : value) {
    if (!is_digit(c)) return {kBadRequest, "Content-Length is not a number"};
    length = length * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return {};
}

// "TE: gzip, trailers;q=0.5" says nothing to this proxy but "trailers".
void narrow_te(Field& field) {
  auto list = field.value;
  while (!list.empty()) {
    const auto member = take_element(list);
    if (!equal_ignoring_case(member, "trailers")) continue;
    field.value = member;
    return;
  }
  field.dropped = true;
}

void drop_named(Fields& fields, std::string_view name, Known known) {
  for (auto& field : fields.all())
    if (field.known == known && (known != Known::kOther || equal_ignoring_case(field.name, name)))
      field.dropped = true;
}

// `left` bounds the work, which is options times fields.
Fault read_connection(std::string_view list, Fields& fields, std::size_t& left, HeadFacts& facts) {
  while (!list.empty()) {
    const auto option = take_element(list);
    if (left-- == 0) return {kBadRequest, "too many connection options"};
    const auto known = known_of(option);
    switch (known) {
      case Known::kKeepAlive:
        facts.keep_alive = true;
        break;
      case Known::kUpgrade:
        facts.upgrade_named = true;
        break;
      case Known::kHost:
      case Known::kContentLength:
      case Known::kTransferEncoding:
      case Known::kTe:
        break;
      default:
        if (equal_ignoring_case(option, "close"))
          facts.close = true;
        else
          drop_named(fields, option, known);
    }
  }
  return {};
}

template <class Pointer>
Fault once(Pointer& where, Field& field, const char* why) {
  if (where) return {kBadRequest, why};
  where = &field;
  return {};
}

Fault note(Field& field, HeadFacts& facts) {
  switch (field.known) {
    case Known::kHost:
      return once(facts.host, field, "more than one Host");
    case Known::kContentLength:
      return once(facts.length, field, "more than one Content-Length");
    case Known::kTransferEncoding:
      field.dropped = true;
      return once(facts.encoding, field, "more than one Transfer-Encoding");
    case Known::kUpgrade:
      field.dropped = true;
      return once(facts.upgrade, field, "more than one Upgrade");
    case Known::kExpect:
      return once(facts.expect, field, "more than one Expect");
    case Known::kTe:
      narrow_te(field);
      return {};
    case Known::kConnection:
    case Known::kKeepAlive:
    case Known::kProxyConnection:
    case Known::kHttp2Settings:
      field.dropped = true;
      return {};
    default:
      return {};
  }
}

Fault check_framing(std::uint8_t minor, HeadFacts& facts) {
  if (facts.length && facts.encoding)
    return {kBadRequest, "Content-Length beside Transfer-Encoding"};
  if (facts.length) return read_length(facts.length->value, facts.content_length);
  if (!facts.encoding) return {};
  if (minor == 0) return {kBadRequest, "Transfer-Encoding in HTTP/1.0"};
  if (!equal_ignoring_case(facts.encoding->value, "chunked"))
    return {kNotImplemented, "Transfer-Encoding is not chunked"};
  return {};
}

}  // namespace

Fault read_fields(std::string_view input, const LineScanner& lines, std::size_t first,
                  Fields& fields) {
  fields.clear();
  for (std::size_t i = first; i < lines.count(); ++i)
    if (const auto fault = read_field(lines.line(input, i), fields)) return fault;
  return {};
}

Fault read_trailers(std::string_view input, const LineScanner& lines, Fields& trailers) {
  if (const auto fault = read_fields(input, lines, 0, trailers)) return fault;
  for (auto& field : trailers.all()) {
    if (field.known == Known::kContentLength || field.known == Known::kTransferEncoding)
      return {kBadRequest, "framing in trailers"};
    field.dropped = field.known != Known::kOther ||
                    std::any_of(kNotInTrailers.begin(), kNotInTrailers.end(),
                                [&](auto name) { return equal_ignoring_case(field.name, name); });
  }
  return {};
}

Fault gather(Fields& fields, std::uint8_t minor, HeadFacts& facts) {
  bool has_connection = false;
  for (auto& field : fields.all()) {
    if (field.known == Known::kOther) continue;
    has_connection |= field.known == Known::kConnection;
    if (const auto fault = note(field, facts)) return fault;
  }
  std::size_t left = kMaxFields;
  if (has_connection)
    for (const auto& field : fields.all())
      if (field.known == Known::kConnection)
        if (const auto fault = read_connection(field.value, fields, left, facts)) return fault;
  return check_framing(minor, facts);
}

std::string_view upgrade_of(HeadFacts& facts, std::uint8_t minor, bool allowed) {
  if (!allowed || !facts.upgrade || !facts.upgrade_named || minor == 0) return {};
  auto list = facts.upgrade->value;
  while (!list.empty())
    if (equal_ignoring_case(take_element(list), "h2c")) return {};
  facts.upgrade->dropped = false;
  return facts.upgrade->value;
}

}  // namespace weft::http
