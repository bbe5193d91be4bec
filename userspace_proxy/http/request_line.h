// A request's first line, and what its target and its Host say about who is meant.
#pragma once

#include <string_view>

#include "userspace_proxy/http/event.h"
#include "userspace_proxy/http/message.h"

namespace weft::http {

// Sets method, target, minor, and by the target's form (RFC 9112 3.2) path and query, for an
// absolute target and for CONNECT also authority.
Fault read_request_line(std::string_view line, RequestHead& head);

// host [":" port] without userinfo. Stricter than RFC 3986 3.2.2: no percent-encoding and no comma
// in a name, an IPv6 address has no zone. An empty host is none.
bool is_authority(std::string_view text, bool with_port);

}  // namespace weft::http
