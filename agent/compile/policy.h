// A service's traffic policy -> the kernel's words. Pure; every rounding rule of the breaker is
// here and in kernel_policy_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi/breaker.h"
#include "mesh/model/mesh.h"

namespace weft::compile {

// Endpoints of a service port that may be out of rotation by their own failures at one time.
// `primaries` are those that take traffic now, `spares` those of later priorities behind them; who
// has weight 0 is neither.
//
//   - No outlier detection: none.
//   - maxEjectionPercent P of n = primaries + spares, rounded down, but at least one where n > 1
//   and
//     P > 0 (as Envoy does, else a service of nine would never eject anybody at the default of 10).
//   - Without maxEjectionPercent P is 10; where there are spares, all primaries may go: the spares
//     are what serves then.
//   - minHealthPercent M keeps n * M / 100, rounded up, in rotation.
//   - The last one stays, unless somebody says maxEjectionPercent: 100.
//
//   n = 1: 0, at 100 % 1.  n = 2: 1, at 100 % 2.  n = 3: 1 up to 66 %, 2 from 67 %, 3 at 100 %.
std::uint32_t max_ejected(const std::optional<model::OutlierDetection>& outlier,
                          std::size_t primaries, std::size_t spares);

// For UDP ports all fields are those of no policy: nothing tells how a datagram fared.
weft_policy policy_of(const model::Service& service, const model::ServicePort& port,
                      std::size_t primaries, std::size_t spares);

// Of a port with HTTP rules, on a node that has a proxy.
std::uint32_t proxy_flags(const model::Service& service, const model::ServicePort& port);

}  // namespace weft::compile
