// The fields of a head or of a trailer section, and what they say about the connection and the
// framing; the same for requests and responses.
//
// What belongs to one connection and therefore is marked dropped (RFC 9110 7.6.1):
// - Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding, Upgrade (but where it takes
//   effect: then it stays visible to rules, and the writer writes its own), HTTP2-Settings.
// - TE, but for its member "trailers", which is all that is left of it.
// - whatever Connection names, except Host, Content-Length and Transfer-Encoding, which the proxy
//   writes itself: a client that names them can take nothing away.
// - Proxy-Authenticate and Proxy-Authorization stay: this proxy never asks for credentials, so they
//   are meant for one behind it (RFC 9110 11.7.1 and 11.7.2 allow to relay them).
#pragma once

#include <cstdint>
#include <string_view>

#include "userspace_proxy/http/event.h"
#include "userspace_proxy/http/line_scanner.h"
#include "userspace_proxy/http/message.h"

namespace weft::http {

// Lines `first` and following as fields; statuses are those of a request.
Fault read_fields(std::string_view input, const LineScanner& lines, std::size_t first,
                  Fields& fields);

// The same of a trailer section. Refused: fields that would frame a message. Marked dropped: what a
// recipient needs before the body or takes decisions by (RFC 9110 6.5.1), so that nothing is
// slipped past those who looked at the head.
Fault read_trailers(std::string_view input, const LineScanner& lines, Fields& trailers);

struct HeadFacts {
  Field* host = nullptr;
  Field* expect = nullptr;
  Field* upgrade = nullptr;
  const Field* length = nullptr;
  const Field* encoding = nullptr;
  std::uint64_t content_length = 0;                               // where `length` is set
  bool close = false, keep_alive = false, upgrade_named = false;  // members of Connection

  bool keeps(std::uint8_t minor) const { return !close && (minor > 0 || keep_alive); }
  bool is_framed() const { return length || encoding; }
};

// Marks what is dropped. A fault where fields contradict one another, or the framing is not one of
// "Content-Length: digits" and "Transfer-Encoding: chunked", once: RFC 9112 6.3 would let equal
// lengths be merged and other codings be listed, but the next recipient may read them differently.
Fault gather(Fields& fields, std::uint8_t minor, HeadFacts& facts);

// The protocol that both sides may change to, or nothing. h2c is none: it would carry requests past
// every rule.
std::string_view upgrade_of(HeadFacts& facts, std::uint8_t minor, bool allowed);

}  // namespace weft::http
