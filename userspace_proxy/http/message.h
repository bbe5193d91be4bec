// One HTTP message's head, as it was parsed and as it will be written; the same for every version
// of the protocol.
//
// Names and values are views: of a parsed head into the connection's input buffer, which stays
// where it is until the head was passed on; of an edited one also into the route table and the
// stream's arena. Nothing is copied on the way from one connection to the other but by the
// serializer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace weft::http {

// Headers that the proxy itself acts upon, told once while parsing. Everything else is kOther.
enum class Known : std::uint8_t {
  kOther,
  kHost,
  kConnection,
  kKeepAlive,
  kProxyConnection,
  kTransferEncoding,
  kContentLength,
  kTe,
  kTrailer,
  kUpgrade,
  kExpect,
  kDate,
  kServer,
  kVia,
  kOrigin,
  kUserAgent,
  kForwardedFor,    // x-forwarded-for
  kForwardedProto,  // x-forwarded-proto
  kRequestId,       // x-request-id
  kTraceParent,
  kTraceState,
  kB3,
  kHttp2Settings,
  kProxyAuthenticate,
  kProxyAuthorization,
};

// `name` in any case.
Known known_of(std::string_view name);

struct Field {
  std::string_view name;   // as received
  std::string_view value;  // without white space at its ends
  Known known = Known::kOther;
  bool dropped = false;  // hop-by-hop, or removed by a rule: not written
};

inline constexpr std::size_t kMaxFields = 100;  // Envoy's default, too; 431 beyond

// At most kMaxFields; the storage belongs to whoever parses and is used again for the next head. It
// is as large as the heads that came need: 5 KB a connection would be most of what an idle one may
// cost.
class Fields {
 public:
  std::span<Field> all() { return fields_; }
  std::span<const Field> all() const { return fields_; }
  // Fields stay where they are for the kRoom additions that follow make_room().
  bool add(std::string_view name, std::string_view value, Known known) {
    if (fields_.size() == fields_.capacity() && !grow()) return false;
    fields_.push_back({name, value, known, false});
    return true;
  }
  void clear() { fields_.clear(); }
  // For what the proxy and rules add; readers call it before they hand out a head.
  void make_room() {
    if (fields_.capacity() - fields_.size() < kRoom) grow();
  }
  // The first that is not dropped; `name` in any case.
  const Field* find(std::string_view name) const;
  const Field* find(Known known) const;

 private:
  static constexpr std::size_t kRoom = 28;
  bool grow();  // false: all that may ever be is taken

  std::vector<Field> fields_;
};

enum class Framing : std::uint8_t {
  kNone,    // no body
  kLength,  // content_length bytes
  kChunked,
  kUntilClose,  // responses only
  kTunnel,      // after 101, or 200 to CONNECT: bytes, no message
};

struct RequestHead {
  std::string_view method;
  std::string_view target;     // as received
  std::string_view authority;  // of Host, or of an absolute target, which wins (RFC 9112 3.2.2)
  std::string_view path;       // raw, before '?'; "*" for OPTIONS *; empty for CONNECT
  std::string_view query;      // after '?', raw; has_query tells "/a?" from "/a"
  bool has_query = false;
  std::uint8_t minor = 1;  // HTTP/1.minor
  Framing framing = Framing::kNone;
  std::uint64_t content_length = 0;
  bool keep_alive = true;
  bool expects_continue = false;
  bool head_only = false;  // HEAD: the response has no body
  bool is_connect = false;
  std::string_view upgrade;  // value of Upgrade where Connection names it, else empty
  Fields fields;
};

struct ResponseHead {
  std::uint16_t status = 0;
  std::string_view reason;
  std::uint8_t minor = 1;
  Framing framing = Framing::kNone;
  std::uint64_t content_length = 0;  // also of an answer to HEAD, for which framing is kNone
  bool has_content_length = false;
  bool keep_alive = true;
  std::string_view upgrade;
  Fields fields;
};

}  // namespace weft::http
