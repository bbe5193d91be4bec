// Any bytes as an endpoint's stream; the same is checked as of requests. The first byte chooses the
// cuts, the second what was asked.
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

// Whoever says that a connection is good for another request has read everything there was.
void check_reuse(std::string_view bytes, weft::http::Asked asked) {
  const weft::http::Limits limits;
  weft::http::ResponseReader reader(limits);
  reader.expect(asked.head_only, asked.is_connect, asked.asked_upgrade);
  const auto seen = weft::http::read_in_pieces(reader, bytes, {}, false,
                                               [](const weft::http::Event&) { return true; });
  if (!reader.is_reusable()) return;
  require(seen.messages > 0 && seen.status == 0, "reusable after a whole response only");
  require(reader.next("x", false).status == 502, "and without a byte more");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const weft::http::Asked asked{.head_only = (data[1] & 1) != 0,
                                .is_connect = (data[1] & 6) == 2,
                                .asked_upgrade = (data[1] & 6) == 4};
  const auto whole = weft::http::read_responses(bytes, asked);
  require(whole.status == 0 || whole.status == 502, "a bad response is 502");
  std::vector<std::size_t> cuts;
  for (std::size_t at = data[0] % 16; at < bytes.size(); at += 1 + data[0] / 16) cuts.push_back(at);
  require(weft::http::read_responses(bytes, asked, cuts).log == whole.log, "cuts do not matter");

  const auto once = weft::http::rewrite_responses(bytes, asked);
  const auto twice = weft::http::rewrite_responses(once.bytes, asked);
  require(twice.model == once.model, "what is written is what was read");
  require(twice.bytes == once.bytes, "writing again changes nothing");
  require(twice.read == once.bytes.size(), "nothing is left over");
  check_reuse(bytes, asked);
  return 0;
}
