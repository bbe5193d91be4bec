#include <charconv>
#include <cstring>

#include "userspace_proxy/http/codec.h"

namespace weft::http {
namespace {

constexpr std::uint32_t bit(Known known) { return 1u << static_cast<unsigned>(known); }

constexpr std::uint32_t kOwn = bit(Known::kHost) | bit(Known::kConnection) |
                               bit(Known::kKeepAlive) | bit(Known::kProxyConnection) |
                               bit(Known::kTransferEncoding) | bit(Known::kContentLength) |
                               bit(Known::kTe) | bit(Known::kUpgrade);

bool is_copied(const Field& field) { return !field.dropped && !(bit(field.known) & kOwn); }

// Room for a whole head is made once, and given back at the end: appending piece by piece costs
// three times as much.
class Output {
 public:
  Output(std::string& out, std::size_t most) : out_(out), size_(out.size()) {
    out_.resize(size_ + most);
  }
  ~Output() { out_.resize(size_); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void put(std::string_view text) {
    std::memcpy(out_.data() + size_, text.data(), text.size());
    size_ += text.size();
  }
  void put_number(std::uint64_t number, int base = 10) {
    const auto end = std::to_chars(out_.data() + size_, out_.data() + out_.size(), number, base);
    size_ = static_cast<std::size_t>(end.ptr - out_.data());
  }
  void put_field(std::string_view name, std::string_view value) {
    put(name);
    put(": ");
    put(value);
    put("\r\n");
  }
  void put_fields(const Fields& fields) {
    for (const auto& field : fields.all())
      if (is_copied(field)) put_field(field.name, field.value);
  }
  void put_length(std::uint64_t length) {
    put("Content-Length: ");
    put_number(length);
    put("\r\n");
  }

 private:
  std::string& out_;
  std::size_t size_;
};

std::size_t size_of(const Fields& fields) {
  std::size_t size = 0;
  for (const auto& field : fields.all()) size += field.name.size() + field.value.size() + 4;
  return size;
}

// More than the words, numbers and line ends that a head has besides what is counted.
constexpr std::size_t kFrame = 256;

void put_connection(Output& out, bool close, bool keep_alive, bool te, std::string_view upgrade) {
  std::string_view separator = "Connection: ";
  const auto option = [&](bool holds, std::string_view name) {
    if (!holds) return;
    out.put(separator);
    out.put(name);
    separator = ", ";
  };
  option(close, "close");
  option(keep_alive, "keep-alive");
  option(te, "TE");
  option(!upgrade.empty(), "upgrade");
  if (separator.size() == 2) out.put("\r\n");
  if (te) out.put("TE: trailers\r\n");
  if (!upgrade.empty()) out.put_field("Upgrade", upgrade);
}

void put_target(Output& out, const WriteRequest& line) {
  out.put(line.method);
  out.put(" ");
  if (line.method == "CONNECT") {
    out.put(line.authority);
  } else {
    out.put(line.path.empty() ? "/" : line.path);
    if (line.has_query) {
      out.put("?");
      out.put(line.query);
    }
  }
  out.put(" HTTP/1.1\r\nHost: ");
  out.put(line.authority);
  out.put("\r\n");
}

void put_response_framing(Output& out, const WriteResponse& line, Framing framing,
                          std::uint64_t content_length) {
  if (line.status < 200 || line.status == 204) return;
  if (line.head_only || line.status == 304) {
    if (line.has_content_length) out.put_length(content_length);
  } else if (framing == Framing::kLength) {
    out.put_length(content_length);
  } else if (framing == Framing::kNone) {
    out.put_length(0);
  } else if (framing == Framing::kChunked && line.minor > 0) {
    out.put("Transfer-Encoding: chunked\r\n");
  }
}

// Nothing but the end of the connection tells where the body ends.
bool ends_by_close(const WriteResponse& line, Framing framing) {
  if (line.head_only || line.status < 200 || line.status == 204 || line.status == 304) return false;
  return framing == Framing::kUntilClose || (framing == Framing::kChunked && line.minor == 0);
}

}  // namespace

void write_head(const WriteRequest& line, const Fields& fields, Framing framing,
                std::uint64_t content_length, std::string& out) {
  Output output(out, kFrame + line.method.size() + line.path.size() + line.query.size() +
                         2 * line.authority.size() + line.upgrade.size() + size_of(fields));
  put_target(output, line);
  output.put_fields(fields);
  put_connection(output, !line.keep_alive, false, fields.find(Known::kTe) != nullptr, line.upgrade);
  if (framing == Framing::kLength) output.put_length(content_length);
  if (framing == Framing::kChunked) output.put("Transfer-Encoding: chunked\r\n");
  output.put("\r\n");
}

void write_head(const WriteResponse& line, const Fields& fields, Framing framing,
                std::uint64_t content_length, std::string& out) {
  const auto reason = line.reason.empty() ? std::string_view(reason_of(line.status)) : line.reason;
  Output output(out, kFrame + reason.size() + line.upgrade.size() + size_of(fields));
  output.put("HTTP/1.1 ");
  output.put_number(line.status);
  output.put(" ");
  output.put(reason);
  output.put("\r\n");
  output.put_fields(fields);
  const bool close = line.status >= 200 && framing != Framing::kTunnel &&
                     (!line.keep_alive || ends_by_close(line, framing));
  put_connection(output, close, line.status >= 200 && !close && line.minor == 0, false,
                 line.upgrade);
  put_response_framing(output, line, framing, content_length);
  output.put("\r\n");
}

void write_chunk_head(std::size_t bytes, std::string& out) {
  Output output(out, 20);
  output.put_number(bytes, 16);
  output.put("\r\n");
}

void write_last_chunk(const Fields& trailers, std::string& out) {
  Output output(out, 8 + size_of(trailers));
  output.put("0\r\n");
  output.put_fields(trailers);
  output.put("\r\n");
}

}  // namespace weft::http
