#include <utility>

#include "userspace_proxy/http/chars.h"
#include "userspace_proxy/http/codec.h"
#include "userspace_proxy/http/head_fields.h"
#include "userspace_proxy/http/request_line.h"

namespace weft::http {
namespace {

constexpr std::uint16_t kBadRequest = 400, kLineTooLong = 414, kTooLarge = 431;

Fault fault_of(LineScanner::Verdict verdict) {
  switch (verdict) {
    case LineScanner::Verdict::kBadByte:
      return {kBadRequest, "control byte in a head"};
    case LineScanner::Verdict::kTooLong:
      return {kTooLarge, "head is too long"};
    case LineScanner::Verdict::kLineTooLong:
      return {kLineTooLong, "request line is too long"};
    case LineScanner::Verdict::kTooMany:
      return {kTooLarge, "too many fields"};
    default:
      return {};
  }
}

// What RFC 9112 3.2 demands, and 3.2.2: the authority of an absolute target wins, for rules that
// look at the field as well.
Fault settle_authority(RequestHead& head, Field* host) {
  if (!host && head.minor > 0) return {kBadRequest, "no Host"};
  if (!host) return {};
  if (!is_authority(host->value, false)) return {kBadRequest, "bad Host"};
  if (head.authority.empty()) head.authority = host->value;
  host->value = head.authority;
  return {};
}

void read_expect(RequestHead& head, Field* expect) {
  head.expects_continue = false;
  if (!expect) return;
  if (head.minor == 0)
    expect->dropped = true;  // RFC 9110 10.1.1: to be ignored
  else
    head.expects_continue = equal_ignoring_case(expect->value, "100-continue");
}

Fault interpret(RequestHead& head) {
  HeadFacts facts;
  if (const auto fault = gather(head.fields, head.minor, facts)) return fault;
  if (const auto fault = settle_authority(head, facts.host)) return fault;
  if (head.is_connect && facts.is_framed()) return {kBadRequest, "CONNECT with a body"};
  head.framing = facts.encoding ? Framing::kChunked
                 : facts.length ? Framing::kLength
                                : Framing::kNone;
  head.content_length = facts.content_length;
  head.keep_alive = facts.keeps(head.minor);
  read_expect(head, facts.expect);
  // With a body the protocol would change behind it, which nobody needs and few get right.
  head.upgrade = upgrade_of(facts, head.minor, !facts.is_framed() && !head.is_connect);
  head.fields.make_room();
  return {};
}

}  // namespace

Event RequestReader::next(std::string_view input, bool eof) {
  switch (state_) {
    case State::kStart:
    case State::kHead:
      return read_head(input, eof);
    case State::kBody:
      return read_body(input, eof);
    case State::kTunnel:
      if (input.empty()) return {};
      return {.kind = Event::Kind::kTunnel, .used = input.size(), .data = input};
    case State::kBroken:
      break;
  }
  return {.kind = Event::Kind::kError, .status = fault_.status, .why = fault_.why};
}

Event RequestReader::broken(Fault fault) {
  state_ = State::kBroken;
  fault_ = fault;
  return {.kind = Event::Kind::kError, .status = fault.status, .why = fault.why};
}

Event RequestReader::read_head(std::string_view input, bool eof) {
  for (std::size_t skipped = 0;;) {
    const auto rest = input.substr(skipped);
    if (state_ == State::kStart && rest.empty()) return {.used = skipped};
    // What is no HTTP at all is seen before it has a line's end.
    if (state_ == State::kStart && !is(rest.front(), kTokenChar) && rest.front() != '\r')
      return broken({kBadRequest, "no request begins with this"});
    state_ = State::kHead;
    const auto verdict =
        lines_.scan(rest, {limits_.head_bytes, limits_.line_bytes, kMaxFields + 1});
    if (verdict == LineScanner::Verdict::kEnd && lines_.count() > 0)
      return parse_head(rest, skipped);
    if (lines_.count() > 0 && !std::exchange(line_checked_, true))
      if (const auto fault = read_request_line(lines_.line(rest, 0), head_)) return broken(fault);
    if (const auto fault = fault_of(verdict)) return broken(fault);
    if (verdict == LineScanner::Verdict::kMore && eof)
      return broken({kBadRequest, "the head ends too soon"});
    if (verdict == LineScanner::Verdict::kMore) return {.used = skipped};
    if (std::exchange(empty_line_, true)) return broken({kBadRequest, "empty lines"});
    skipped = lines_.size();  // RFC 9112 2.2: one empty line, left by a careless client
    lines_.restart();
    state_ = State::kStart;
  }
}

Event RequestReader::parse_head(std::string_view input, std::size_t skipped) {
  const auto size = lines_.size();
  auto fault = read_request_line(lines_.line(input, 0), head_);
  if (!fault) fault = read_fields(input, lines_, 1, head_.fields);
  if (!fault) fault = interpret(head_);
  if (fault) return broken(fault);
  lines_.restart();
  trailers_.clear();
  empty_line_ = line_checked_ = false;
  state_ = State::kBody;
  body_.start(head_.framing, head_.content_length);
  return {.kind = Event::Kind::kHead, .used = skipped + size};
}

Event RequestReader::read_body(std::string_view input, bool eof) {
  const auto event = body_.next(input, eof, limits_, lines_, trailers_);
  if (event.kind == Event::Kind::kError) return broken({event.status, event.why});
  if (event.kind == Event::Kind::kEnd) {
    lines_.restart();
    state_ = State::kStart;
  }
  return event;
}

}  // namespace weft::http
