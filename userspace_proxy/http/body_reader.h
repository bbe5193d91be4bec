// The bytes behind a head: so many, chunks, all until the end of the connection, or none. The same
// for requests and responses; statuses are those of a request.
#pragma once

#include <cstdint>
#include <string_view>

#include "userspace_proxy/http/event.h"
#include "userspace_proxy/http/line_scanner.h"
#include "userspace_proxy/http/message.h"

namespace weft::http {

class BodyReader {
 public:
  void start(Framing framing, std::uint64_t content_length);
  // kData, kNeedMore, kError, or at last kEnd. `lines` is free for a trailer section.
  Event next(std::string_view input, bool eof, const Limits& limits, LineScanner& lines,
             Fields& trailers);

 private:
  enum class Step : std::uint8_t {
    kLength,
    kChunkSize,
    kChunkData,
    kChunkEnd,
    kTrailers,
    kUntilClose,
    kEnd
  };
  // How a piece of framing ended; `used` 0 and no fault: not at all yet.
  struct Piece {
    std::size_t used = 0;
    Fault fault;
  };
  Event data(std::string_view input, std::size_t at);
  Piece framing(std::string_view input, const Limits& limits, LineScanner& lines, Fields& trailers);
  Piece chunk_size(std::string_view input, const Limits& limits);
  Piece chunk_extension(std::string_view input, std::size_t at, const Limits& limits);
  Piece chunk_end(std::string_view input);
  Piece trailer_section(std::string_view input, const Limits& limits, LineScanner& lines,
                        Fields& trailers);

  Step step_ = Step::kEnd;
  std::uint64_t left_ = 0;           // of the body or the chunk
  std::size_t extension_bytes_ = 0;  // of all chunks
};

}  // namespace weft::http
