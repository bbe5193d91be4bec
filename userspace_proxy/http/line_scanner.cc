#include "userspace_proxy/http/line_scanner.h"

#include <algorithm>
#include <bit>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace weft::http {
namespace {

constexpr std::size_t kBlock = 16;

// Bit i: byte i of the block is a control byte other than HTAB.
std::uint32_t controls_of(const char* block) {
#ifdef __SSE2__
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block));
  const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
  const __m128i tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t'));
  const __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
  return static_cast<std::uint32_t>(
      _mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del)));
#else
  std::uint32_t found = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    const auto c = static_cast<std::uint8_t>(block[i]);
    found |= std::uint32_t{(c < 0x20 && c != '\t') || c == 0x7f} << i;
  }
  return found;
#endif
}

std::uint32_t controls_of_rest(const char* rest, std::size_t size) {
  char block[kBlock];
  std::memset(block, ' ', kBlock);
  std::memcpy(block, rest, size);
  return controls_of(block);
}

}  // namespace

// One control byte, but the LF of a CR. The limits come first, and by position: a stream that is
// cut into pieces meets them before it meets what is behind them.
inline LineScanner::Verdict LineScanner::take(std::string_view input, std::size_t position,
                                              const Bounds& bounds) {
  if (count_ == 0 && position > bounds.first_line_bytes) return Verdict::kLineTooLong;
  if (position >= bounds.bytes) return Verdict::kTooLong;
  if (input[position] != '\r') return Verdict::kBadByte;
  if (position + 1 == input.size()) return Verdict::kMore;
  if (input[position + 1] != '\n') return Verdict::kBadByte;
  if (position + 2 > bounds.bytes) return Verdict::kTooLong;
  const bool empty = position == line_;
  if (!empty && count_ == bounds.lines) return Verdict::kTooMany;
  if (!empty) ends_[count_++] = static_cast<std::uint32_t>(position);
  line_ = position + 2;
  return empty ? Verdict::kEnd : Verdict::kMore;
}

LineScanner::Verdict LineScanner::scan(std::string_view input, const Bounds& bounds) {
  for (std::size_t at = at_; at < input.size(); at += kBlock) {
    const auto rest = input.size() - at;
    auto found =
        rest >= kBlock ? controls_of(input.data() + at) : controls_of_rest(input.data() + at, rest);
    for (; found; found &= found - 1) {
      at_ = at + static_cast<std::size_t>(std::countr_zero(found));
      if (at_ + 1 == line_ && input[at_] == '\n') continue;
      const auto verdict = take(input, at_, bounds);
      if (verdict != Verdict::kMore) return verdict;
      if (at_ + 1 == input.size() && input[at_] == '\r') return Verdict::kMore;
    }
  }
  at_ = input.size();
  if (count_ == 0 && at_ > bounds.first_line_bytes) return Verdict::kLineTooLong;
  return at_ >= bounds.bytes ? Verdict::kTooLong : Verdict::kMore;
}

}  // namespace weft::http
