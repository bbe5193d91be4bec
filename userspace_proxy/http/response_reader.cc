#include <algorithm>
#include <utility>

#include "userspace_proxy/http/chars.h"
#include "userspace_proxy/http/codec.h"
#include "userspace_proxy/http/head_fields.h"

namespace weft::http {
namespace {

constexpr std::uint16_t kBadGateway = 502;

const char* why_of(LineScanner::Verdict verdict) {
  switch (verdict) {
    case LineScanner::Verdict::kBadByte:
      return "control byte in a head";
    case LineScanner::Verdict::kTooLong:
      return "head is too long";
    case LineScanner::Verdict::kLineTooLong:
      return "status line is too long";
    case LineScanner::Verdict::kTooMany:
      return "too many fields";
    default:
      return nullptr;
  }
}

// "HTTP/1.1 200 OK"; many servers leave out the reason and the space before it.
Fault read_status_line(std::string_view line, ResponseHead& head) {
  constexpr std::string_view kBefore = "HTTP/1.";
  constexpr std::size_t kStatus = 9, kReason = 12;
  if (!line.starts_with(kBefore) || line.size() < kReason || line[8] != ' ' ||
      (line[7] != '0' && line[7] != '1'))
    return {kBadGateway, "no HTTP/1 status line"};
  head.minor = static_cast<std::uint8_t>(line[7] - '0');
  unsigned status = 0;
  for (std::size_t i = kStatus; i < kReason; ++i) {
    if (!is_digit(line[i])) return {kBadGateway, "status is not a number"};
    status = status * 10 + static_cast<unsigned>(line[i] - '0');
  }
  if (status < 100) return {kBadGateway, "status is below 100"};
  if (line.size() > kReason && line[kReason] != ' ') return {kBadGateway, "status of four digits"};
  head.status = static_cast<std::uint16_t>(status);
  head.reason = line.substr(std::min(line.size(), kReason + 1));
  return {};
}

bool is_interim(std::uint16_t status) { return status < 200 && status != 101; }

}  // namespace

void ResponseReader::expect(bool head_only, bool is_connect, bool asked_upgrade) {
  head_only_ = head_only;
  is_connect_ = is_connect;
  asked_upgrade_ = asked_upgrade;
  if (state_ == State::kIdle) state_ = State::kHead;
}

Event ResponseReader::next(std::string_view input, bool eof) {
  switch (state_) {
    case State::kIdle:
      return idle(input, eof);
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
  return broken(why_);
}

Event ResponseReader::broken(const char* why) {
  state_ = State::kBroken;
  why_ = why;
  return {.kind = Event::Kind::kError, .status = kBadGateway, .why = why};
}

Event ResponseReader::idle(std::string_view input, bool eof) {
  if (!input.empty()) return broken("bytes that nobody asked for");
  reusable_ &= !eof;
  return {};
}

Event ResponseReader::read_head(std::string_view input, bool eof) {
  if (!reusable_) return broken("the connection cannot be used again");
  if (!input.empty() && input.front() != 'H') return broken("no HTTP/1 status line");
  const auto verdict = lines_.scan(input, {limits_.head_bytes, limits_.line_bytes, kMaxFields + 1});
  if (verdict == LineScanner::Verdict::kEnd) return parse_head(input);
  if (lines_.count() > 0 && !std::exchange(line_checked_, true))
    if (const auto fault = read_status_line(lines_.line(input, 0), head_)) return broken(fault.why);
  if (const auto* why = why_of(verdict)) return broken(why);
  if (eof) return broken(input.empty() ? "no response" : "the head ends too soon");
  return {};
}

Event ResponseReader::parse_head(std::string_view input) {
  const auto size = lines_.size();
  auto fault = read_status_line(lines_.line(input, 0), head_);
  if (!fault) fault = read_fields(input, lines_, 1, head_.fields);
  if (!fault) fault = interpret();
  if (fault) return broken(fault.why);
  lines_.restart();
  trailers_.clear();
  line_checked_ = false;
  state_ = head_.framing == Framing::kTunnel ? State::kTunnel : State::kBody;
  body_.start(head_.framing, head_.content_length);
  return {.kind = Event::Kind::kHead, .used = size};
}

Fault ResponseReader::interpret() {
  HeadFacts facts;
  if (const auto fault = gather(head_.fields, head_.minor, facts)) return fault;
  head_.content_length = facts.content_length;
  head_.has_content_length = facts.length;
  head_.keep_alive = facts.keeps(head_.minor);
  head_.upgrade = upgrade_of(facts, head_.minor, head_.status == 101);
  if (const auto fault = set_framing(facts.is_framed(), facts.encoding)) return fault;
  head_.keep_alive &= head_.framing != Framing::kUntilClose && head_.framing != Framing::kTunnel;
  interim_ = is_interim(head_.status);
  if (!interim_) reusable_ = head_.keep_alive;
  head_.fields.make_room();
  return {};
}

// RFC 9112 6.3, in its order.
Fault ResponseReader::set_framing(bool is_framed, bool is_chunked) {
  const auto status = head_.status;
  head_.framing = Framing::kNone;
  if (status < 200 || status == 204) {
    // Such a body may not be there; a sender that announces one may send it.
    const bool announced = is_chunked || head_.content_length > 0;
    if (announced && status < 200) return {kBadGateway, "1xx with a body"};
    head_.keep_alive &= !announced;
    head_.has_content_length = false;
    head_.content_length = 0;
    if (status != 101) return {};
    if (!asked_upgrade_) return {kBadGateway, "101 that nobody asked for"};
    if (head_.upgrade.empty()) return {kBadGateway, "101 without Upgrade"};
    head_.framing = Framing::kTunnel;
    return {};
  }
  if (is_connect_ && status < 300) {
    head_.framing = Framing::kTunnel;
    head_.has_content_length = false;
    head_.content_length = 0;
    return {};
  }
  if (head_only_ || status == 304) return {};
  head_.framing = is_chunked  ? Framing::kChunked
                  : is_framed ? Framing::kLength
                              : Framing::kUntilClose;
  return {};
}

Event ResponseReader::read_body(std::string_view input, bool eof) {
  const auto event = body_.next(input, eof, limits_, lines_, trailers_);
  if (event.kind == Event::Kind::kError) return broken(event.why);
  if (event.kind != Event::Kind::kEnd) return event;
  lines_.restart();
  state_ = interim_ ? State::kHead : State::kIdle;
  // What follows a final response belongs to no request.
  if (state_ == State::kIdle && event.used < input.size()) reusable_ = false;
  return event;
}

}  // namespace weft::http
