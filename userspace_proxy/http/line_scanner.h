// Finds the lines of a head or of a trailer section, and refuses every byte that none of them may
// hold, in one pass of 16 bytes at a time: NUL, bare CR, bare LF and all other control bytes but
// HTAB (RFC 9110 5.5, RFC 9112 2.2). So whoever reads a line need not look for them again.
//
// Scanning goes on where it stopped, so that a head which comes byte by byte costs no more than one
// that comes at once; and what it says depends on the bytes alone, not on how they were cut.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "userspace_proxy/http/message.h"

namespace weft::http {

class LineScanner {
 public:
  enum class Verdict : std::uint8_t {
    kMore,
    kEnd,          // the empty line is there
    kBadByte,      // a control byte, or CR or LF without the other
    kTooLong,      // as a whole
    kLineTooLong,  // the first line
    kTooMany       // lines
  };
  struct Bounds {
    std::size_t bytes = 0;             // with the empty line
    std::size_t first_line_bytes = 0;  // without its end
    std::size_t lines = 0;             // without the empty one; at most kMaxFields + 1
  };

  void restart() { at_ = line_ = count_ = 0; }
  // `input` begins where it began in the calls before, and has grown.
  Verdict scan(std::string_view input, const Bounds& bounds);

  std::size_t count() const { return count_; }  // complete lines, without the empty one
  std::string_view line(std::string_view input, std::size_t i) const {
    const std::size_t begin = i ? ends_[i - 1] + 2 : 0;
    return input.substr(begin, ends_[i] - begin);
  }
  std::size_t size() const { return line_; }  // after kEnd: bytes with the empty line

 private:
  Verdict take(std::string_view input, std::size_t position, const Bounds& bounds);

  std::size_t at_ = 0;    // the bytes before it are scanned
  std::size_t line_ = 0;  // where the line begins that has no end yet
  std::size_t count_ = 0;
  std::array<std::uint32_t, kMaxFields + 1> ends_;  // offsets of the lines' CR
};

}  // namespace weft::http
