// Any bytes as a client's stream: what is understood does not depend on how the bytes were cut,
// and what is sent on is understood as what was read, by its own framing and no other. The first
// byte chooses the cuts.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "userspace_proxy/http/rewrite_fixture.h"

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

std::string in_lower_case(std::string_view text) {
  std::string lower(text);
  for (auto& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  return lower;
}

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// Not by the reader: it would find what the writer thinks is there.
void check_written_head(std::string_view written) {
  const auto head = in_lower_case(written.substr(0, written.find("\r\n\r\n") + 2));
  require(count(head, "\r\ncontent-length:") + count(head, "\r\ntransfer-encoding:") <= 1,
          "at most one framing");
  require(count(head, "\r\nhost:") == 1, "one Host");
  require(count(head, "\n") == count(head, "\r\n") && count(head, "\r") == count(head, "\r\n"),
          "no line ends but CRLF");
  for (const char* name : {"\r\nkeep-alive:", "\r\nproxy-connection:", "\r\nhttp2-settings:"})
    require(count(head, name) == 0, "nothing of the other connection");
  require(head.find("\r\nupgrade: h2c\r\n") == std::string::npos, "no h2c");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = weft::http::read_request(bytes);
  std::vector<std::size_t> cuts;
  for (std::size_t at = data[0] % 16; at < bytes.size(); at += 1 + data[0] / 16) cuts.push_back(at);
  require(weft::http::read_request(bytes, cuts).log == whole.log, "cuts do not matter");

  const auto once = weft::http::rewrite_requests(bytes);
  const auto twice = weft::http::rewrite_requests(once.bytes);
  require(twice.model == once.model, "what is written is what was read");
  require(twice.bytes == once.bytes, "writing again changes nothing");
  require(twice.read == once.bytes.size(), "nothing is left over");
  if (!once.bytes.empty()) check_written_head(once.bytes);
  return 0;
}
