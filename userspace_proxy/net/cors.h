// Cross-origin resource sharing, as a rule's corsPolicy asks for it (Fetch standard, 3.2).
#pragma once

#include <string>
#include <string_view>

#include "mesh/model/http.h"
#include "userspace_proxy/http/message.h"

namespace weft::net {

// For an origin that is allowed. Views into `cors` and `origin`, and into text that lives as long
// as the thread.
void add_cors_fields(const model::Cors& cors, std::string_view origin, http::Fields& fields);
void add_preflight_fields(const model::Cors& cors, std::string_view origin, http::Fields& fields);

}  // namespace weft::net
