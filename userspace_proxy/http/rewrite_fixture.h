// A stream read and written again, as a proxy between two connections would, for tests and fuzz
// targets: what was understood must be what the next recipient understands.
#pragma once

#include <string>
#include <string_view>

#include "userspace_proxy/http/codec_fixture.h"

namespace weft::http {

struct Rewritten {
  std::string bytes;     // complete messages only
  std::string model;     // what they say, without what belongs to one connection
  std::size_t read = 0;  // bytes of the input up to the end of the last complete message
};

inline std::string end_to_end(const Fields& fields) {
  std::string text;
  for (const auto& field : fields.all()) {
    const auto known = field.known;
    if (field.dropped || known == Known::kTe || known == Known::kContentLength ||
        known == Known::kTransferEncoding || known == Known::kUpgrade ||
        known == Known::kConnection || known == Known::kHost)
      continue;
    text.append(field.name).append("=").append(field.value).append("\n");
  }
  return text;
}

inline std::string framing_text(Framing framing, std::uint64_t length) {
  return " " + std::to_string(static_cast<int>(framing)) + " " + std::to_string(length);
}

inline std::string authority_of(const RequestHead& head) {
  return head.authority.empty() ? "dialled" : std::string(head.authority);
}

inline void rewrite_head(const RequestHead& head, Rewritten& to) {
  const auto authority = authority_of(head);
  write_head(WriteRequest{.method = head.method,
                          .path = head.path,
                          .query = head.query,
                          .authority = authority,
                          .has_query = head.has_query,
                          .upgrade = head.upgrade},
             head.fields, head.framing, head.content_length, to.bytes);
  to.model.append(head.method).append(" ").append(authority).append(" ").append(head.path);
  if (head.has_query) to.model.append("?").append(head.query);
  to.model.append(" ").append(head.upgrade).append(head.expects_continue ? " expects" : "");
  to.model += framing_text(head.framing, head.content_length) + "\n" + end_to_end(head.fields);
}

inline void rewrite_head(const ResponseHead& head, bool head_only, Rewritten& to) {
  write_head(WriteResponse{.status = head.status,
                           .reason = head.reason,
                           .keep_alive = head.keep_alive,
                           .upgrade = head.upgrade,
                           .head_only = head_only,
                           .has_content_length = head.has_content_length},
             head.fields, head.framing, head.content_length, to.bytes);
  to.model += std::to_string(head.status) + " ";
  to.model += head.reason.empty() ? std::string_view(reason_of(head.status)) : head.reason;
  to.model.append(" ").append(head.upgrade);
  to.model += framing_text(head.framing, head.content_length) + "\n" + end_to_end(head.fields);
}

inline void rewrite_body(const Event& event, bool chunked, const Fields& trailers, Rewritten& to) {
  if (event.kind == Event::Kind::kEnd) {
    if (chunked) write_last_chunk(trailers, to.bytes);
    to.model += "\nend " + end_to_end(trailers);
    return;
  }
  if (chunked) write_chunk_head(event.data.size(), to.bytes);
  to.bytes += event.data;
  if (chunked) to.bytes += "\r\n";
  to.model += event.data;
}

template <class Reader, class OnHead>
Rewritten rewrite(Reader& reader, std::string_view input, OnHead on_head) {
  Rewritten so_far, complete;
  for (std::size_t used = 0;;) {
    const auto event = reader.next(input.substr(used), true);
    used += event.used;
    if (event.kind == Event::Kind::kNeedMore || event.kind == Event::Kind::kError) return complete;
    if (event.kind == Event::Kind::kHead)
      on_head(so_far);
    else
      rewrite_body(event, reader.head().framing == Framing::kChunked, reader.trailers(), so_far);
    so_far.read = used;
    if (event.kind == Event::Kind::kEnd || event.kind == Event::Kind::kTunnel) complete = so_far;
  }
}

inline Rewritten rewrite_requests(std::string_view input) {
  const Limits limits;
  RequestReader reader(limits);
  return rewrite(reader, input, [&](Rewritten& to) { rewrite_head(reader.head(), to); });
}

inline Rewritten rewrite_responses(std::string_view input, Asked asked) {
  const Limits limits;
  ResponseReader reader(limits);
  reader.expect(asked.head_only, asked.is_connect, asked.asked_upgrade);
  return rewrite(reader, input,
                 [&](Rewritten& to) { rewrite_head(reader.head(), asked.head_only, to); });
}

}  // namespace weft::http
