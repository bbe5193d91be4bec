// Streams for the tests of the codec: whole inputs, cut as a test says, and what came of them as
// text, so that two ways of reading can be compared.
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "userspace_proxy/http/codec.h"

namespace weft::http {

inline std::string text_of(const Fields& fields) {
  std::string text;
  for (const auto& field : fields.all())
    text.append(field.dropped ? "(" : "")
        .append(field.name)
        .append("=")
        .append(field.value)
        .append(field.dropped ? ")\n" : "\n");
  return text;
}

inline std::string text_of(const RequestHead& head) {
  std::string text(head.method);
  text.append(" authority=").append(head.authority).append(" path=").append(head.path);
  if (head.has_query) text.append(" query=").append(head.query);
  text += " minor=" + std::to_string(head.minor) +
          " framing=" + std::to_string(static_cast<int>(head.framing)) +
          " length=" + std::to_string(head.content_length);
  if (head.keep_alive) text += " keep-alive";
  if (head.expects_continue) text += " expects";
  if (head.head_only) text += " head-only";
  if (head.is_connect) text += " connect";
  if (!head.upgrade.empty()) text.append(" upgrade=").append(head.upgrade);
  return text + "\n" + text_of(head.fields);
}

inline std::string text_of(const ResponseHead& head) {
  std::string text = std::to_string(head.status);
  text.append(" ").append(head.reason);
  text += " minor=" + std::to_string(head.minor) +
          " framing=" + std::to_string(static_cast<int>(head.framing)) +
          " length=" + std::to_string(head.content_length);
  if (head.has_content_length) text += " has-length";
  if (head.keep_alive) text += " keep-alive";
  if (!head.upgrade.empty()) text.append(" upgrade=").append(head.upgrade);
  return text + "\n" + text_of(head.fields);
}

struct Seen {
  std::string log;   // heads, bodies, ends, errors; data joined
  std::string body;  // of all messages
  std::uint16_t status = 0;
  std::string why;
  std::size_t messages = 0;  // complete ones
};

inline void note(const Event& event, const std::string& head, const std::string& trailers,
                 Seen& seen) {
  switch (event.kind) {
    case Event::Kind::kHead:
      seen.log += "head " + head + "data ";
      break;
    case Event::Kind::kData:
    case Event::Kind::kTunnel:
      seen.log += event.data;
      seen.body += event.data;
      break;
    case Event::Kind::kEnd:
      seen.log += "\nend " + trailers;
      ++seen.messages;
      break;
    case Event::Kind::kError:
      seen.status = event.status;
      seen.why = event.why;
      seen.log += "\nerror " + std::to_string(event.status) + " " + event.why;
      break;
    case Event::Kind::kNeedMore:
      break;
  }
}

// Feeds `bytes` in pieces that end at `cuts`, as a connection would: what is not used comes again,
// in another place. `on_event` is called with each, and returns false to stop.
template <class Reader, class OnEvent>
Seen read_in_pieces(Reader& reader, std::string_view bytes, std::vector<std::size_t> cuts, bool eof,
                    OnEvent on_event) {
  Seen seen;
  std::size_t used = 0, idle = 0;
  cuts.push_back(bytes.size());
  for (std::size_t i = 0; i < cuts.size(); ++i) {
    const bool last = i + 1 == cuts.size();
    // A copy of exactly these bytes: a view that outlives them, or reads beyond, shows under ASan.
    const std::vector<char> piece(bytes.begin() + static_cast<std::ptrdiff_t>(used),
                                  bytes.begin() + static_cast<std::ptrdiff_t>(cuts[i]));
    std::string_view input(piece.data(), piece.size());
    for (;;) {
      const auto event = reader.next(input, last && eof);
      if (event.used > input.size()) std::abort();
      idle = event.used ? 0 : idle + 1;
      if (idle > 4 + cuts.size()) std::abort();
      note(event, event.kind == Event::Kind::kHead ? text_of(reader.head()) : "",
           event.kind == Event::Kind::kEnd ? text_of(reader.trailers()) : "", seen);
      used += event.used;
      input.remove_prefix(event.used);
      if (event.kind == Event::Kind::kNeedMore) break;
      if (event.kind == Event::Kind::kError || !on_event(event)) return seen;
    }
    idle = 0;
  }
  return seen;
}

inline Seen read_request(std::string_view bytes, std::vector<std::size_t> cuts = {},
                         bool eof = true) {
  const Limits limits;
  RequestReader reader(limits);
  return read_in_pieces(reader, bytes, std::move(cuts), eof, [](const Event&) { return true; });
}

struct Asked {
  bool head_only = false, is_connect = false, asked_upgrade = false;
};

// One exchange after the other, as long as the connection can be used again.
inline Seen read_responses(std::string_view bytes, Asked asked = {},
                           std::vector<std::size_t> cuts = {}, bool eof = true) {
  const Limits limits;
  ResponseReader reader(limits);
  reader.expect(asked.head_only, asked.is_connect, asked.asked_upgrade);
  return read_in_pieces(reader, bytes, std::move(cuts), eof, [](const Event&) { return true; });
}

// Every single cut, and every byte by itself.
inline std::vector<std::vector<std::size_t>> all_cuts(std::size_t size) {
  std::vector<std::vector<std::size_t>> cuts;
  std::vector<std::size_t> each;
  for (std::size_t i = 1; i < size; ++i) {
    cuts.push_back(std::vector<std::size_t>(1, i));
    each.push_back(i);
  }
  if (!each.empty()) cuts.push_back(each);
  return cuts;
}

}  // namespace weft::http
