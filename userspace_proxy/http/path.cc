#include "userspace_proxy/http/path.h"

#include <algorithm>

#include "userspace_proxy/http/chars.h"

namespace weft::http {
namespace {

// How many bytes at the front are as they should be already: most paths from end to end.
std::size_t plain_bytes(std::string_view path) {
  std::size_t i = 0;
  for (; i < path.size(); ++i) {
    if (!is(path[i], kPathChar)) break;
    if (path[i] == '/' && i + 1 < path.size() && (path[i + 1] == '/' || path[i + 1] == '.')) break;
  }
  return i;
}

// The escape at the front of `text`; false: refused.
bool decode(std::string_view text, std::string& out) {
  constexpr char kHex[] = "0123456789ABCDEF";
  const int high = text.size() < 3 ? -1 : hex_value(text[1]);
  const int low = text.size() < 3 ? -1 : hex_value(text[2]);
  if (high < 0 || low < 0) return false;
  const char c = static_cast<char>(high << 4 | low);
  if (c == '\0' || c == '/' || c == '\\') return false;
  if (is(c, kUnreservedChar))
    out += c;
  else
    out.append({'%', kHex[high], kHex[low]});
  return true;
}

bool decode_all(std::string_view path, std::string& out) {
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '%') {
      if (!decode(path.substr(i), out)) return false;
      i += 2;
    } else if (is(path[i], kPathChar)) {
      out += path[i];
    } else {
      return false;
    }
  }
  return true;
}

// "..;a=b" is a name here, but ".." to servers that cut parameters off each segment (Envoy
// CVE-2026-73511): nothing that a rule compares would be what the endpoint serves.
bool is_dots_with_parameters(std::string_view segment) {
  const auto semicolon = segment.find(';');
  if (semicolon == std::string_view::npos) return false;
  const auto name = segment.substr(0, semicolon);
  return name == "." || name == "..";
}

// RFC 3986 5.2.4 in place; what is written is never longer than what was read. As there, and as
// with Istio, ".." takes an empty segment away like any other: slashes are merged afterwards.
bool resolve_dots(std::string& path) {
  std::size_t written = 0;
  for (std::size_t read = 0; read < path.size();) {
    const auto end = std::min(path.find('/', read + 1), path.size());
    const auto segment = std::string_view(path).substr(read + 1, end - read - 1);
    if (is_dots_with_parameters(segment)) return false;
    const bool up = segment == "..";
    if (up || segment == ".") {
      if (up && written > 0) written = path.rfind('/', written - 1);
      if (end == path.size()) path[written++] = '/';
    } else {
      std::copy(path.begin() + static_cast<std::ptrdiff_t>(read),
                path.begin() + static_cast<std::ptrdiff_t>(end),
                path.begin() + static_cast<std::ptrdiff_t>(written));
      written += end - read;
    }
    read = end;
  }
  path.resize(written);
  return true;
}

}  // namespace

PathVerdict normalize_path(std::string_view path, std::string& out) {
  if (path == "*") return PathVerdict::kUnchanged;
  if (!path.starts_with('/')) return PathVerdict::kRefused;
  const auto plain = plain_bytes(path);
  if (plain == path.size()) return PathVerdict::kUnchanged;
  out.assign(path.substr(0, plain));
  if (!decode_all(path.substr(plain), out) || !resolve_dots(out)) return PathVerdict::kRefused;
  const auto both_slashes = [](char a, char b) { return a == '/' && b == '/'; };
  out.erase(std::unique(out.begin(), out.end(), both_slashes), out.end());
  return out == path ? PathVerdict::kUnchanged : PathVerdict::kChanged;
}

}  // namespace weft::http
