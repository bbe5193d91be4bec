// Why a request did not simply get its endpoint's answer: Envoy's response flags, since dashboards
// and people know them.
#pragma once

#include <cstdint>
#include <string>

namespace weft::net {

// X(enumerator, letters)
#define WEFT_RESPONSE_FLAGS(X)                                \
  X(kNoRoute, "NR")           /* no rule matched */           \
  X(kNoHealthyUpstream, "UH") /* no endpoint to be had */     \
  X(kUpstreamFailure, "UF")   /* its connection failed */     \
  X(kUpstreamOverflow, "UO")  /* a limit of connectionPool */ \
  X(kRetriesExceeded, "URX")                                  \
  X(kUpstreamReset, "UC") /* the connection ended within */   \
  X(kUpstreamTimeout, "UT")                                   \
  X(kUpstreamProtocol, "UPE") /* its answer was no HTTP */    \
  X(kDownstreamClosed, "DC")  /* the client went away */      \
  X(kDownstreamProtocol, "DPE")                               \
  X(kStreamIdle, "SI")

enum class FlagBit : std::uint8_t {
#define WEFT_FLAG(name, letters) name,
  WEFT_RESPONSE_FLAGS(WEFT_FLAG)
#undef WEFT_FLAG
};

using Flags = std::uint32_t;
constexpr Flags flag(FlagBit bit) { return 1u << static_cast<unsigned>(bit); }
std::string to_text(Flags flags);  // "UF,URX", "-" for none

}  // namespace weft::net
