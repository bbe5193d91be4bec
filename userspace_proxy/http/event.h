// What a reader says about the bytes it was given, and how many it is willing to look at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

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

// Why a message is refused; status 0: it is not.
struct Fault {
  std::uint16_t status = 0;
  const char* why = "";

  explicit operator bool() const { return status != 0; }
};

}  // namespace weft::http
