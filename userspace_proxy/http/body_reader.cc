#include "userspace_proxy/http/body_reader.h"

#include <algorithm>

#include "userspace_proxy/http/chars.h"
#include "userspace_proxy/http/head_fields.h"

namespace weft::http {
namespace {

constexpr std::uint16_t kBadRequest = 400, kTooLarge = 431;
constexpr std::size_t kMostDigits = 16;  // more could overflow, or are zeros to no purpose

// A sender that puts an extension at every chunk makes us read many times what it sends on
// (CVE-2023-39326 was Go's).
constexpr std::size_t kMostExtensionLines = 4;

Event failed(Fault fault, std::size_t at) {
  return {.kind = Event::Kind::kError, .used = at, .status = fault.status, .why = fault.why};
}

Fault fault_of(LineScanner::Verdict verdict) {
  switch (verdict) {
    case LineScanner::Verdict::kBadByte:
      return {kBadRequest, "control byte in trailers"};
    case LineScanner::Verdict::kTooLong:
    case LineScanner::Verdict::kLineTooLong:
      return {kTooLarge, "trailers are too long"};
    case LineScanner::Verdict::kTooMany:
      return {kTooLarge, "too many trailers"};
    default:
      return {};
  }
}

}  // namespace

void BodyReader::start(Framing framing, std::uint64_t content_length) {
  left_ = extension_bytes_ = 0;
  step_ = Step::kEnd;
  if (framing == Framing::kChunked) step_ = Step::kChunkSize;
  if (framing == Framing::kUntilClose) step_ = Step::kUntilClose;
  if (framing != Framing::kLength || content_length == 0) return;
  step_ = Step::kLength;
  left_ = content_length;
}

Event BodyReader::next(std::string_view input, bool eof, const Limits& limits, LineScanner& lines,
                       Fields& trailers) {
  std::size_t at = 0;
  for (;;) {
    if (step_ == Step::kEnd) return {.kind = Event::Kind::kEnd, .used = at};
    const bool is_data =
        step_ == Step::kLength || step_ == Step::kChunkData || step_ == Step::kUntilClose;
    if (is_data && at < input.size()) return data(input, at);
    if (step_ == Step::kUntilClose && eof) {
      trailers.clear();  // they may be shared, and hold another message's
      step_ = Step::kEnd;
      continue;
    }
    const auto piece = is_data ? Piece{} : framing(input.substr(at), limits, lines, trailers);
    if (piece.fault) return failed(piece.fault, at);
    if (piece.used == 0 && eof) return failed({kBadRequest, "the body ends too soon"}, at);
    if (piece.used == 0) return {.kind = Event::Kind::kNeedMore, .used = at};
    at += piece.used;
  }
}

Event BodyReader::data(std::string_view input, std::size_t at) {
  auto size = input.size() - at;
  if (step_ != Step::kUntilClose) {
    size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, size));
    left_ -= size;
    if (left_ == 0) step_ = step_ == Step::kLength ? Step::kEnd : Step::kChunkEnd;
  }
  return {.kind = Event::Kind::kData, .used = at + size, .data = input.substr(at, size)};
}

BodyReader::Piece BodyReader::framing(std::string_view input, const Limits& limits,
                                      LineScanner& lines, Fields& trailers) {
  if (step_ == Step::kChunkSize) return chunk_size(input, limits);
  if (step_ == Step::kChunkEnd) return chunk_end(input);
  return trailer_section(input, limits, lines, trailers);
}

// 1*HEXDIG [extensions] CRLF, and nothing else: no sign, no "0x", no white space around.
BodyReader::Piece BodyReader::chunk_size(std::string_view input, const Limits& limits) {
  std::uint64_t size = 0;
  std::size_t digits = 0;
  for (int digit; digits < input.size() && (digit = hex_value(input[digits])) >= 0; ++digits) {
    if (digits == kMostDigits) return {0, {kBadRequest, "chunk size is too large"}};
    size = size << 4 | static_cast<std::uint64_t>(digit);
  }
  if (digits == input.size()) return {};
  if (digits == 0) return {0, {kBadRequest, "chunk without a size"}};
  Piece piece;
  if (input[digits] != '\r') {
    piece = chunk_extension(input, digits, limits);
  } else if (digits + 1 < input.size()) {
    if (input[digits + 1] != '\n') return {0, {kBadRequest, "bare CR in a chunk's line"}};
    piece.used = digits + 2;
  }
  if (piece.used == 0) return piece;
  left_ = size;
  step_ = size ? Step::kChunkData : Step::kTrailers;
  return piece;
}

// *( BWS ";" ... ) up to CRLF, passed over and not passed on.
BodyReader::Piece BodyReader::chunk_extension(std::string_view input, std::size_t at,
                                              const Limits& limits) {
  const auto line = input.substr(0, limits.chunk_line_bytes);
  auto end = at;
  while (end < line.size() && is_blank(line[end])) ++end;
  if (end < line.size() && line[end] != ';') return {0, {kBadRequest, "chunk size is not hex"}};
  const auto is_control = [](char c) {
    return (static_cast<std::uint8_t>(c) < 0x20 && c != '\t') || c == 0x7f;
  };
  while (end < line.size() && !is_control(line[end])) ++end;
  if (end < line.size() && line[end] != '\r')
    return {0, {kBadRequest, "control byte in a chunk's line"}};
  if (end + 1 < line.size()) {
    if (line[end + 1] != '\n') return {0, {kBadRequest, "bare CR in a chunk's line"}};
    extension_bytes_ += end - at;
    if (extension_bytes_ > kMostExtensionLines * limits.chunk_line_bytes)
      return {0, {kBadRequest, "too many chunk extensions"}};
    return {end + 2, {}};
  }
  if (line.size() == limits.chunk_line_bytes) return {0, {kBadRequest, "chunk's line is too long"}};
  return {};
}

BodyReader::Piece BodyReader::chunk_end(std::string_view input) {
  if (!input.empty() && input[0] != '\r')
    return {0, {kBadRequest, "chunk is longer than its size"}};
  if (input.size() < 2) return {};
  if (input[1] != '\n') return {0, {kBadRequest, "bare CR behind a chunk"}};
  step_ = Step::kChunkSize;
  return {2, {}};
}

BodyReader::Piece BodyReader::trailer_section(std::string_view input, const Limits& limits,
                                              LineScanner& lines, Fields& trailers) {
  const auto verdict = lines.scan(input, {limits.trailer_bytes, limits.trailer_bytes, kMaxFields});
  if (const auto fault = fault_of(verdict)) return {0, fault};
  if (verdict == LineScanner::Verdict::kMore) return {};
  if (const auto fault = read_trailers(input, lines, trailers)) return {0, fault};
  step_ = Step::kEnd;
  return {lines.size(), {}};
}

}  // namespace weft::http
