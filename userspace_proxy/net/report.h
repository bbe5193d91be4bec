// What all workers counted, under the names and labels that people know, as weftd exposes it.
#pragma once

#include <vector>

#include <weft/v1/proxy.pb.h>
#include "userspace_proxy/net/metrics.h"

namespace weft::net {

// `number`: of the question.
weft::v1::Report report_of(const std::vector<Metrics>& workers, std::uint64_t number);

}  // namespace weft::net
