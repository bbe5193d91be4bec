// One path, whichever way it was written: rules and policies compare what this returns, and the
// endpoint is sent what was compared (Envoy CVE-2019-9901, CVE-2021-32779, CVE-2026-73511 are what
// happens else).
#pragma once

#include <string>
#include <string_view>

namespace weft::http {

enum class PathVerdict { kUnchanged, kChanged, kRefused };

// RFC 3986 6.2.2 and Istio's MERGE_SLASHES: unreserved percent-encodings are decoded and the others
// written in upper case, "." and ".." segments resolved (never above the root), several slashes
// merged. Refused (400): a path that does not begin with "/" ("*" is left alone), a broken
// percent-encoding, %00, an encoded slash or backslash within, a raw "\\" or "#", bytes that a path
// may not hold, a "." or ".." segment with parameters ("/..;a/"). "[", "]", "|" and "^" are let
// through: clients of the WHATWG's URL standard send them raw. `out` is set where it is kChanged,
// and of no meaning else.
PathVerdict normalize_path(std::string_view path, std::string& out);

}  // namespace weft::http
