// What a connection's bytes mean, without a socket: bytes go in, events come out; heads and data go
// in, bytes come out. The unit is the stream, so that HTTP/2 fits behind the same two classes'
// shape: of HTTP/1.1 there is one stream at a time, and `stream` is the number of the message on
// the connection.
//
// Strict where RFC 9112 lets a recipient choose, since what two recipients read differently is how
// requests are smuggled (RFC 9112 11.2): a message whose framing leaves any doubt is an error,
// which the caller answers with `status` and a close. What is written is built from the parsed
// head, never copied from the input.
//
// Not thread-safe; no allocation but for the caller's output buffer; no clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "userspace_proxy/http/message.h"

namespace weft::http {

struct Limits {
  std::size_t head_bytes =
      60 * 1024;  // of a head with its request line; 431 (414 where the line alone exceeds it)
  std::size_t line_bytes = 16 * 1024;   // of a request line
  std::size_t chunk_line_bytes = 4096;  // a chunk's size with its extensions
  std::size_t trailer_bytes = 8 * 1024;
};

struct Event {
  enum class Kind : std::uint8_t {
    kNeedMore,  // nothing more in this input; `used` bytes of it are done with
    kHead,    // head() is valid until the next head is parsed and as long as the input's bytes stay
              // where they are
    kData,    // `data`: a part of the body, a view into the input
    kEnd,     // of the message; trailers() is valid (views into the input)
    kTunnel,  // from here on all bytes are the tunnel's: `data`
    kError,   // `status` and `why`; the connection is of no use any more
  };
  Kind kind = Kind::kNeedMore;
  std::size_t used =
      0;  // bytes of the input that this event consumed; the next call begins behind them
  std::string_view data;
  std::uint16_t status = 0;  // 400, 413, 414, 431, 501, 505; of a response always 502
  const char* why = "";      // a constant; for the log
};

// Requests of a client. Call next() with all input that is not consumed until it needs more.
class RequestReader {
 public:
  // `head` and `trailers` may be shared by readers that are not used at the same time: an idle
  // connection then costs no room for a head.
  RequestReader(const Limits& limits, RequestHead& head, Fields& trailers)
      : limits_(limits), head_(head), trailers_(trailers) {}

  // `eof`: nothing comes any more. Then kNeedMore at the beginning of a message is a clean end,
  // within one an error.
  Event next(std::string_view input, bool eof);
  RequestHead& head() { return head_; }
  const Fields& trailers() const { return trailers_; }
  bool at_start() const;  // between two messages, and not a byte of the next was seen
  void tunnel();          // after 101 or 200 to CONNECT was sent

 private:
  enum class State : std::uint8_t {
    kStart,
    kHead,
    kLength,
    kChunkSize,
    kChunkData,
    kChunkEnd,
    kTrailers,
    kEnd,
    kTunnel,
    kBroken
  };
  const Limits& limits_;
  State state_ = State::kStart;
  std::uint64_t left_ = 0;   // of the body or the chunk
  std::size_t scanned_ = 0;  // bytes of the input that were searched for the head's end already
  std::size_t trailer_seen_ = 0;
  RequestHead& head_;
  Fields& trailers_;
};

// Responses of an endpoint. expect() before each, since what a response means depends on its
// request.
class ResponseReader {
 public:
  ResponseReader(const Limits& limits, ResponseHead& head, Fields& trailers)
      : limits_(limits), head_(head), trailers_(trailers) {}

  void expect(bool head_only, bool is_connect, bool asked_upgrade);
  // 1xx but 101 come as kHead followed by kEnd, and the next event is of the same exchange.
  Event next(std::string_view input, bool eof);
  ResponseHead& head() { return head_; }
  const Fields& trailers() const { return trailers_; }
  // All that was expected has come and nothing else: the connection can be used again.
  bool is_reusable() const;

 private:
  enum class State : std::uint8_t {
    kIdle,
    kHead,
    kLength,
    kChunkSize,
    kChunkData,
    kChunkEnd,
    kTrailers,
    kUntilClose,
    kEnd,
    kTunnel,
    kBroken
  };
  const Limits& limits_;
  State state_ = State::kIdle;
  bool head_only_ = false, is_connect_ = false, asked_upgrade_ = false;
  std::uint64_t left_ = 0;
  std::size_t scanned_ = 0;
  std::size_t trailer_seen_ = 0;
  ResponseHead& head_;
  Fields& trailers_;
};

// Writers append to `out`. Fields that are dropped, and all that belong to one connection
// (Connection and what it names, Keep-Alive, Proxy-Connection, TE, Transfer-Encoding,
// Content-Length, Upgrade), are not copied; the framing is written from `framing`. Fields with a
// byte that a field may not hold never get here: readers refuse them.
struct WriteRequest {
  std::string_view method, path, query, authority;
  bool has_query = false;
  bool keep_alive = true;
  std::string_view upgrade;  // written as Connection: upgrade and Upgrade
};
void write_head(const WriteRequest& line, const Fields& fields, Framing framing,
                std::uint64_t content_length, std::string& out);

struct WriteResponse {
  std::uint16_t status = 200;
  std::string_view reason;  // empty: the usual one of the status
  std::uint8_t minor = 1;   // the client's: an HTTP/1.0 client gets no chunks
  bool keep_alive = true;
  std::string_view upgrade;
  bool head_only =
      false;  // answer to HEAD: content_length is written where has_content_length, no body follows
  bool has_content_length = false;
};
void write_head(const WriteResponse& line, const Fields& fields, Framing framing,
                std::uint64_t content_length, std::string& out);

void write_chunk_head(std::size_t bytes, std::string& out);  // before the data; "\r\n" follows it
void write_last_chunk(const Fields& trailers, std::string& out);

const char* reason_of(std::uint16_t status);

}  // namespace weft::http
