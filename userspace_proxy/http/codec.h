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
// Not thread-safe; no clock; no allocation but for the caller's output buffer and, the first time
// on a connection, the fields' storage. What a reader says depends on the bytes alone, not on how
// they were cut into pieces (but for where kData is cut).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "userspace_proxy/http/body_reader.h"
#include "userspace_proxy/http/event.h"
#include "userspace_proxy/http/line_scanner.h"
#include "userspace_proxy/http/message.h"

namespace weft::http {

// Requests of a client. Call next() with all input that is not consumed until it needs more. Behind
// CONNECT, or a head with `upgrade`, wait for the response before the next message is asked for:
// whether those bytes are the tunnel's only the response tells.
class RequestReader {
 public:
  // `head` and `trailers` may be shared by readers that are not used at the same time: an idle
  // connection then costs no room for a head.
  RequestReader(const Limits& limits, RequestHead& head, Fields& trailers)
      : limits_(limits), head_(head), trailers_(trailers) {}
  // With a head of its own.
  explicit RequestReader(const Limits& limits) : RequestReader(limits, std::make_unique<Own>()) {}

  // `eof`: nothing comes any more. Then kNeedMore at the beginning of a message is a clean end,
  // within one an error.
  Event next(std::string_view input, bool eof);
  RequestHead& head() { return head_; }
  const Fields& trailers() const { return trailers_; }
  // Between two messages, and not a byte of the next was seen but for an empty line.
  bool at_start() const { return state_ == State::kStart; }
  void tunnel() { state_ = State::kTunnel; }  // after 101 or 200 to CONNECT was sent

 private:
  struct Own {
    RequestHead head;
    Fields trailers;
  };
  RequestReader(const Limits& limits, std::unique_ptr<Own> own)
      : limits_(limits), own_(std::move(own)), head_(own_->head), trailers_(own_->trailers) {}

  enum class State : std::uint8_t { kStart, kHead, kBody, kTunnel, kBroken };
  Event read_head(std::string_view input, bool eof);
  Event parse_head(std::string_view input, std::size_t skipped);
  Event read_body(std::string_view input, bool eof);
  Event broken(Fault fault);

  const Limits& limits_;
  State state_ = State::kStart;
  bool empty_line_ = false;    // one was passed over before this head
  bool line_checked_ = false;  // the request line, of a head that is not complete
  Fault fault_;
  LineScanner lines_;
  BodyReader body_;
  std::unique_ptr<Own> own_;  // null: another's are used
  RequestHead& head_;
  Fields& trailers_;
};

// Responses of an endpoint. expect() before each, since what a response means depends on its
// request.
class ResponseReader {
 public:
  ResponseReader(const Limits& limits, ResponseHead& head, Fields& trailers)
      : limits_(limits), head_(head), trailers_(trailers) {}
  // With a head of its own.
  explicit ResponseReader(const Limits& limits) : ResponseReader(limits, std::make_unique<Own>()) {}

  void expect(bool head_only, bool is_connect, bool asked_upgrade);
  // 1xx but 101 come as kHead followed by kEnd, and the next event is of the same exchange. Bytes
  // that nobody asked for are an error, the end of a connection that nobody waits for is kNeedMore.
  Event next(std::string_view input, bool eof);
  ResponseHead& head() { return head_; }
  const Fields& trailers() const { return trailers_; }
  // All that was expected has come and nothing else: the connection can be used again.
  bool is_reusable() const { return state_ == State::kIdle && reusable_; }

 private:
  struct Own {
    ResponseHead head;
    Fields trailers;
  };
  ResponseReader(const Limits& limits, std::unique_ptr<Own> own)
      : limits_(limits), own_(std::move(own)), head_(own_->head), trailers_(own_->trailers) {}

  enum class State : std::uint8_t { kIdle, kHead, kBody, kTunnel, kBroken };
  Event read_head(std::string_view input, bool eof);
  Event parse_head(std::string_view input);
  Fault interpret();
  Fault set_framing(bool is_framed, bool is_chunked);
  Event read_body(std::string_view input, bool eof);
  Event idle(std::string_view input, bool eof);
  Event broken(const char* why);

  const Limits& limits_;
  State state_ = State::kIdle;
  bool head_only_ = false, is_connect_ = false, asked_upgrade_ = false;
  bool reusable_ = true;
  bool interim_ =
      false;  // the head was a 1xx: the shared one may be another's by the message's end
  bool line_checked_ = false;
  const char* why_ = "";
  LineScanner lines_;
  BodyReader body_;
  std::unique_ptr<Own> own_;  // null: another's are used
  ResponseHead& head_;
  Fields& trailers_;
};

// Writers append to `out`. Fields that are dropped, and all that belong to one connection or frame
// the message (Connection, Keep-Alive, Proxy-Connection, TE, Transfer-Encoding, Content-Length,
// Upgrade, Host) are not copied; the framing is written from `framing`, Host from `authority`. Of a
// request's TE "trailers" is passed on, since trailers are. Fields with a byte that a field may not
// hold never get here: readers refuse them.
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
  std::uint8_t minor = 1;   // the client's: an HTTP/1.0 client gets no chunks, kChunked is then
                            // written as kUntilClose is, and the data goes without chunk heads
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
