// What the HTTP/1.1 codec costs a request: ns to read a head of ten fields, to write one, both, and
// to normalize a path, each the best of several rounds (the machine's other work only adds).
// Usage: weft_codec [ROUNDS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "userspace_proxy/http/codec.h"
#include "userspace_proxy/http/path.h"

namespace {

using namespace weft::http;

constexpr int kTimes = 100'000;

constexpr std::string_view kRequest =
    "GET /api/v1/products/4711?lang=en&currency=EUR HTTP/1.1\r\n"
    "Host: productpage.shop.svc.cluster.local:9080\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-US,en;q=0.5\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    "X-Request-Id: 3f0c9d1e-8a52-4b7e-9d0e-5c1b2a3f4e5d\r\n"
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
    "X-Forwarded-For: 10.1.2.3\r\n"
    "Connection: keep-alive\r\n\r\n";

constexpr std::string_view kResponse =
    "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 26 Nov 2026 18:00:00 GMT\r\n"
    "Content-Type: application/json\r\nContent-Length: 1024\r\nETag: \"5f3c\"\r\n"
    "Cache-Control: no-cache\r\nVary: Accept-Encoding\r\nX-Envoy-Upstream: 3\r\n"
    "Connection: keep-alive\r\n\r\n";

template <class Work>
void measure(const char* name, int rounds, Work work) {
  double best = 1e9;
  for (int round = 0; round < rounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kTimes; ++i) work();
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count() / kTimes);
  }
  std::printf("%s ns=%.0f\n", name, best);
}

void require(bool holds) {
  if (!holds) std::abort();
}

void read(RequestReader& reader) {
  require(reader.next(kRequest, false).kind == Event::Kind::kHead);
  require(reader.next({}, false).kind == Event::Kind::kEnd);
}

void write(const RequestHead& head, std::string& out) {
  out.clear();
  write_head(WriteRequest{.method = head.method,
                          .path = head.path,
                          .query = head.query,
                          .authority = head.authority,
                          .has_query = head.has_query},
             head.fields, head.framing, head.content_length, out);
}

// Without its body, as if HEAD had been asked.
void read(ResponseReader& reader) {
  reader.expect(true, false, false);
  require(reader.next(kResponse, false).kind == Event::Kind::kHead);
  require(reader.next({}, false).kind == Event::Kind::kEnd);
}

void write(const ResponseHead& head, std::string& out) {
  out.clear();
  write_head(WriteResponse{.status = head.status, .reason = head.reason}, head.fields,
             Framing::kLength, head.content_length, out);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 20;
  const Limits limits;
  RequestReader requests(limits);
  ResponseReader responses(limits);
  std::string out, path;
  read(requests);
  read(responses);
  measure("request_read", rounds, [&] { read(requests); });
  measure("request_write", rounds, [&] { write(requests.head(), out); });
  measure("request_both", rounds, [&] {
    read(requests);
    write(requests.head(), out);
  });
  measure("response_read", rounds, [&] { read(responses); });
  measure("response_write", rounds, [&] { write(responses.head(), out); });
  measure("path_plain", rounds, [&] { normalize_path("/api/v1/products/4711/reviews", path); });
  measure("path_dots", rounds, [&] { normalize_path("/api/v1/%61/../products/./4711", path); });
  return 0;
}
