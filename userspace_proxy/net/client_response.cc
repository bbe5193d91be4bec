// What is said to the client: gathered where more of it follows at once, else sent.
#include <array>

#include "userspace_proxy/net/client.h"
#include "userspace_proxy/net/stream.h"
#include "userspace_proxy/net/worker.h"

namespace weft::net {

// Never ends the stream, which is in the middle of answering: that comes by the timer.
void Client::write(std::span<const std::string_view> pieces) {
  if (!is_open() || broken_) return;
  if (!Socket::send(pieces)) {
    broken_ = true;
    loop_.set(timer_, 0);
  } else if (backlog() || eof_ || (stream_ && !stream_->request_done())) {
    set_timer();  // this is what was waited for
  }
}

void Client::respond(const http::WriteResponse& line, const http::Fields& fields,
                     http::Framing framing, std::uint64_t content_length) {
  auto& gather = worker_.gather();
  if (gather.collects_for(*this)) {
    auto& text = gather.text();
    const auto from = text.size();
    http::write_head(line, fields, framing, content_length, text);
    return gather.add_text(from);
  }
  std::string head;
  http::write_head(line, fields, framing, content_length, head);
  const std::string_view piece = head;
  write({&piece, 1});
}

void Client::respond_data(std::string_view data, bool chunked) {
  auto& gather = worker_.gather();
  if (gather.collects_for(*this)) {
    if (chunked) {
      auto& text = gather.text();
      const auto from = text.size();
      http::write_chunk_head(data.size(), text);
      gather.add_text(from);
    }
    gather.add(data);
    if (chunked) gather.add("\r\n");
    return;
  }
  std::string head;
  if (chunked) http::write_chunk_head(data.size(), head);
  const std::array<std::string_view, 3> pieces{head, data, chunked ? "\r\n" : ""};
  write(pieces);
}

void Client::respond_copy(std::string_view text) {
  auto& gather = worker_.gather();
  if (!gather.collects_for(*this)) return write({&text, 1});
  const auto from = gather.text().size();
  gather.text().append(text);
  gather.add_text(from);
}

void Client::respond_end(bool chunked, const http::Fields& trailers) {
  if (!chunked) return;
  auto& gather = worker_.gather();
  if (gather.collects_for(*this)) {
    auto& text = gather.text();
    const auto from = text.size();
    http::write_last_chunk(trailers, text);
    return gather.add_text(from);
  }
  std::string last;
  http::write_last_chunk(trailers, last);
  const std::string_view piece = last;
  write({&piece, 1});
}

}  // namespace weft::net
