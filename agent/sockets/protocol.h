// What weft-sockets is told by weftd and asked by weft-proxy: datagrams over Unix seqpacket
// sockets, descriptors beside them (SCM_RIGHTS). Both ends are of one build on one machine, so
// these are plain structs in the machine's byte order; docs/proxy.md has the flow.
#pragma once

#include <cstdint>

namespace weft::sockets {

// Descriptors that weftd starts weft-sockets with. It ends when the control socket is
// closed and no proxy is left: what an earlier weftd started serves until its successor does.
inline constexpr int kControlDescriptor = 3;
inline constexpr int kOwnSocketsDescriptor = 4;     // map weft_own_sockets
inline constexpr int kBypassReadersDescriptor = 5;  // map weft_bypass_readers; may be missing

inline constexpr std::uint64_t kOwnNamespace = 0;  // a cookie: the node's, where weftd runs

enum class Order : std::uint32_t {
  kAddNetns = 1,   // with one descriptor, of the namespace; replaces one of the same cookie
  kDropNetns = 2,  // absent is fine. Sockets that were made there stay
  kAddProxy = 3,   // with one descriptor: the seqpacket socket of that generation
  kListen = 4,     // listeners in the namespace
};

// weftd -> weft-sockets. Each is answered, in order.
struct ControlRequest {
  std::uint32_t order = 0;  // enum Order
  std::uint32_t tag = 0;    // the answer has it
  std::uint64_t netns_cookie = 0;
  std::uint64_t generation = 0;  // of kAddProxy, for the log
};
static_assert(sizeof(ControlRequest) == 24);

// Descriptors beside the answer to kListen: one for each bit of `listening`, IPv4 first.
struct ControlAnswer {
  std::uint32_t tag = 0;
  std::uint16_t listening = 0;  // enum weft_listening
  std::uint16_t error = 0;      // errno of the order as a whole
  std::uint16_t error_v4 =
      0;  // of kListen: why there is no listener; EADDRINUSE: an older one lives
  std::uint16_t error_v6 = 0;
};
static_assert(sizeof(ControlAnswer) == 12);

inline constexpr std::uint16_t kMostAtOnce = 16;

// weft-proxy -> weft-sockets: sockets to connect to endpoints with.
struct Ask {
  std::uint64_t netns_cookie = 0;
  std::uint16_t family = 0;  // AF_INET or AF_INET6
  std::uint16_t count = 0;   // at most kMostAtOnce
  std::uint32_t tag = 0;
};
static_assert(sizeof(Ask) == 16);

// `count` descriptors are beside it. `error` says why they are less than were asked for: ENONET
// where the namespace is not known (any more), EAGAIN where the asker's socket was full.
struct Answer {
  std::uint32_t tag = 0;
  std::uint16_t count = 0;
  std::uint16_t error = 0;
};
static_assert(sizeof(Answer) == 8);

}  // namespace weft::sockets
