#include "userspace_proxy/http/request_line.h"

#include <algorithm>

#include "userspace_proxy/http/chars.h"

namespace weft::http {
namespace {

constexpr std::uint16_t kBadRequest = 400, kVersionNotSupported = 505;
constexpr std::string_view kScheme = "http://";

// " HTTP/1.1" at the end of the line.
Fault take_version(std::string_view& line, std::uint8_t& minor) {
  constexpr std::string_view kBefore = " HTTP/";
  constexpr std::size_t kSize = kBefore.size() + 3;
  const auto version = line.size() < kSize ? std::string_view{} : line.substr(line.size() - kSize);
  if (!version.starts_with(kBefore) || !is_digit(version[6]) || version[7] != '.' ||
      !is_digit(version[8]))
    return {kBadRequest, "request line without a version"};
  if (version[6] != '1' || version[8] > '1')
    return {kVersionNotSupported, "version is not HTTP/1.0 or HTTP/1.1"};
  minor = static_cast<std::uint8_t>(version[8] - '0');
  line.remove_suffix(kSize);
  return {};
}

void split_query(std::string_view text, RequestHead& head) {
  const auto mark = text.find('?');
  head.has_query = mark != std::string_view::npos;
  head.path = text.substr(0, mark);
  head.query = head.has_query ? text.substr(mark + 1) : std::string_view{};
}

Fault read_absolute(std::string_view rest, RequestHead& head) {
  const auto end = std::min(rest.find_first_of("/?"), rest.size());
  head.authority = rest.substr(0, end);
  if (!is_authority(head.authority, false)) return {kBadRequest, "bad authority in the target"};
  split_query(rest.substr(end), head);
  // RFC 9112 3.2.4: an OPTIONS request without a path asks about the server.
  if (head.path.empty()) head.path = head.method == "OPTIONS" && !head.has_query ? "*" : "/";
  return {};
}

Fault read_target(RequestHead& head) {
  const auto target = head.target;
  if (head.is_connect) {
    head.authority = target;
    return is_authority(target, true) ? Fault{} : Fault{kBadRequest, "CONNECT needs host and port"};
  }
  if (target.front() == '/') {
    split_query(target, head);
    return {};
  }
  if (target == "*") {
    head.path = target;
    return head.method == "OPTIONS" ? Fault{} : Fault{kBadRequest, "* is for OPTIONS only"};
  }
  if (equal_ignoring_case(target.substr(0, kScheme.size()), kScheme))
    return read_absolute(target.substr(kScheme.size()), head);
  return {kBadRequest, "target is neither a path nor an http address"};
}

}  // namespace

Fault read_request_line(std::string_view line, RequestHead& head) {
  head.authority = head.path = head.query = {};
  head.has_query = false;
  if (const auto fault = take_version(line, head.minor)) return fault;
  std::size_t space = 0;
  while (space < line.size() && is(line[space], kTokenChar)) ++space;
  if (space == 0 || space == line.size() || line[space] != ' ')
    return {kBadRequest, "request line without a method"};
  head.method = line.substr(0, space);
  head.target = line.substr(space + 1);
  if (head.target.empty() || !are_all(head.target, kTargetChar))
    return {kBadRequest, "target holds what it may not"};
  head.is_connect = head.method == "CONNECT";
  head.head_only = head.method == "HEAD";
  return read_target(head);
}

bool is_authority(std::string_view text, bool with_port) {
  const bool bracketed = text.starts_with('[');
  const auto end = bracketed ? std::min(text.find(']'), text.size() - 1) + 1
                             : std::min(text.find(':'), text.size());
  const auto host = text.substr(0, end);
  auto port = text.substr(end);
  if (bracketed) {
    const auto inner = host.substr(1, host.size() - 2);
    if (!host.ends_with(']') || inner.find(':') == std::string_view::npos) return false;
    for (const char c : inner)
      if (hex_value(c) < 0 && c != ':' && c != '.') return false;
  } else if (host.empty() || !are_all(host, kHostChar)) {
    return false;
  }
  if (port.empty()) return !with_port;
  if (port.front() != ':') return false;
  port.remove_prefix(1);
  unsigned number = 0;
  for (const char c : port) {
    if (!is_digit(c) || port.size() > 5) return false;
    number = number * 10 + static_cast<unsigned>(c - '0');
  }
  return number <= 65535 && (!with_port || number > 0);
}

}  // namespace weft::http
