// The checks, each an experiment of its own; `credit` is what a stalled reader may have queued.
#pragma once

#include <cstdint>

#include "agent/bypass/trial.h"

namespace weft::bypass {

// bytes_check.cc
void check_pairing(Trial& trial, std::uint64_t credit);
void check_bytes(Trial& trial, std::uint64_t credit);
void check_order(Trial& trial, std::uint64_t credit);

// ends_check.cc
void check_half_close(Trial& trial, std::uint64_t credit);
void check_close(Trial& trial, std::uint64_t credit);
void check_reset(Trial& trial, std::uint64_t credit);

// readiness_check.cc
void check_readiness(Trial& trial, std::uint64_t credit);
void check_epoll(Trial& trial, std::uint64_t credit);

// limits_check.cc
void check_backpressure(Trial& trial, std::uint64_t credit);
void check_drain(Trial& trial, std::uint64_t credit);

inline std::string number(std::uint64_t value) { return std::to_string(value); }

}  // namespace weft::bypass
