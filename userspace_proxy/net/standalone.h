// One service without a weftd: for benchmarks, tests, and a look at the proxy by itself.
#pragma once

#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include <weft/v1/proxy.pb.h>
#include "mesh/base/fd.h"
#include "mesh/model/address.h"
#include "userspace_proxy/net/config.h"

namespace weft::net {

absl::StatusOr<Dialled> parse_address(const std::string& text);  // "127.0.0.1:80", "[::1]:80"
absl::StatusOr<base::Fd> listen_at(const Dialled& address);

// A service at `dialled` whose every request goes to one of `to`; `routes` rules in front of it
// that match nothing a benchmark asks for ("exact", "prefix", "header", "regex").
weft::v1::Config one_service(const Dialled& dialled, const std::vector<Dialled>& to, int routes,
                             const std::string& kind);

}  // namespace weft::net
