// Any bytes as a path: what comes out is at rest, inside the root, and decoded at most once.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "userspace_proxy/http/chars.h"
#include "userspace_proxy/http/path.h"

namespace {

using weft::http::normalize_path;
using weft::http::PathVerdict;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

void check_result(const std::string& path) {
  std::string again;
  require(normalize_path(path, again) == PathVerdict::kUnchanged, "it is at rest");
  require(path.front() == '/', "it begins at the root");
  require(path.find("//") == std::string::npos, "no empty segments");
  for (const char* dots : {"/./", "/../", "/.;", "/..;"})
    require((path + "/").find(dots) == std::string::npos, "no dot segments");
  for (std::size_t i = 0; i < path.size(); ++i) {
    const auto c = static_cast<std::uint8_t>(path[i]);
    require(c > 0x20 && c < 0x7f && c != '#' && c != '?' && c != '\\', "only what a path may hold");
    if (c != '%') continue;
    require(i + 2 < path.size(), "whole encodings");
    const int byte = weft::http::hex_value(path[i + 1]) << 4 | weft::http::hex_value(path[i + 2]);
    require(byte > 0 && byte != '/' && byte != '\\', "no encoded separator");
    require(!weft::http::is(static_cast<char>(byte), weft::http::kUnreservedChar),
            "nothing encoded that need not be");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string path(reinterpret_cast<const char*>(data), size);
  std::string out;
  const auto verdict = normalize_path(path, out);
  if (verdict == PathVerdict::kRefused || path == "*") return 0;
  if (verdict == PathVerdict::kUnchanged) out = path;
  require(out.size() <= path.size(), "it does not grow");
  // "%25" is the only way to spell a percent sign, and what follows one is never read with it.
  require(count(out, "%25") <= count(path, "%25"), "nothing is encoded");
  check_result(out);
  return 0;
}
