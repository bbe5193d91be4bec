// What a request says, as rules compare it. One place, since every difference between what is
// compared here and what the endpoint is sent is a way around a rule.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "userspace_proxy/http/message.h"

namespace weft::routes {

// The values of a header, joined by "," in the order they came where it came several times (RFC
// 9110 5.3): a rule sees all of them, never only the first or the last (Envoy CVE-2021-32777,
// CVE-2026-26308). Fields that are dropped are not there: the endpoint will not see them either.
// `name` in lower case; `room` holds what had to be joined.
std::optional<std::string_view> header_value(const http::Fields& fields, std::string_view name,
                                             std::string& room);

// The first value of a query parameter (Gateway API's recommendation, and what Envoy takes).
// Names are case-sensitive. Name and value are percent-decoded, as RFC 9110 4.2.3 calls both
// spellings the same and Gateway API refers to that (Envoy compares undecoded, which "?%76=1"
// walks around); "+" stays "+", since RFC 3986 knows no other meaning. A broken encoding is left as
// it is. A parameter without "=" has an empty value.
std::optional<std::string_view> query_value(std::string_view query, std::string_view name,
                                            std::string& room);
void percent_decode(std::string_view text, std::string& out);

// "example.com:80" -> "example.com", "[::1]:80" -> "[::1]"; the same where there is no port.
std::string_view without_port(std::string_view authority);

}  // namespace weft::routes
