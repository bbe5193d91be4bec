#include "agent/observe/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "mesh/base/fd.h"

namespace weft::observe {
namespace {

base::Fd dial(std::uint16_t port, const char* address = "127.0.0.1") {
  sockaddr_in6 v6{};
  sockaddr_in v4{};
  v6.sin6_family = AF_INET6, v4.sin_family = AF_INET;
  v6.sin6_port = v4.sin_port = htons(port);
  const bool is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
  if (!is_v4) inet_pton(AF_INET6, address, &v6.sin6_addr);
  base::Fd fd(socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto* where = is_v4 ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
  if (connect(fd.get(), where, is_v4 ? sizeof v4 : sizeof v6)) return base::Fd();
  const timeval limit{60, 0};  // a server that hangs fails the test and does not hang it
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return fd;
}

void send_all(const base::Fd& fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t size = send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (size <= 0) return;
    text.remove_prefix(size);
  }
}

// Everything until the server closes; nothing where it resets or hangs.
std::optional<std::string> read_all(const base::Fd& fd) {
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t size = recv(fd.get(), buffer, sizeof buffer, 0);
    if (size < 0) return std::nullopt;
    if (size == 0) return text;
    text.append(buffer, size);
  }
}

struct HttpServerTest : testing::Test {
  std::string unhealthy, not_ready;
  std::string body = "weft_ready 1\n";
  int renderings = 0;
  std::unique_ptr<HttpServer> server;

  void start(HttpOptions options = {}) {
    if (options.address == HttpOptions{}.address) options.address = "127.0.0.1:0";
    auto started =
        HttpServer::start(options, {.metrics =
                                        [this] {
                                          ++renderings;
                                          return std::make_shared<const std::string>(body);
                                        },
                                    .unhealthy = [this] { return unhealthy; },
                                    .not_ready = [this] { return not_ready; }});
    ASSERT_TRUE(started.ok()) << started.status();
    server = *std::move(started);
  }
  std::string ask(const std::string& request) {
    const auto fd = dial(server->port());
    send_all(fd, request);
    return read_all(fd).value_or("(reset or timed out)");
  }
  std::string get(const std::string& path) {
    return ask("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
  }
};

TEST_F(HttpServerTest, ServesMetrics) {
  start();
  const auto answer = get("/metrics");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_NE(answer.find("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            std::string::npos);
  EXPECT_NE(answer.find("Content-Length: 13\r\n"), std::string::npos) << answer;
  EXPECT_TRUE(answer.ends_with("\r\n\r\nweft_ready 1\n")) << answer;
}

TEST_F(HttpServerTest, HeadHasTheLengthAndNoBody) {
  start();
  const auto answer = ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(answer.find("Content-Length: 13\r\n"), std::string::npos) << answer;
  EXPECT_TRUE(answer.ends_with("\r\n\r\n")) << answer;
}

TEST_F(HttpServerTest, HealthAndReadinessSayWhyNot) {
  start();
  EXPECT_TRUE(get("/healthz").starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(get("/readyz?verbose").starts_with("HTTP/1.1 200 "));
  unhealthy = "the control thread hangs";
  not_ready = "source dir:x is not ready";
  EXPECT_TRUE(get("/healthz").starts_with("HTTP/1.1 503 "));
  EXPECT_TRUE(get("/healthz").ends_with("\r\n\r\nthe control thread hangs\n"));
  EXPECT_TRUE(get("/readyz").ends_with("\r\n\r\nsource dir:x is not ready\n"));
}

TEST_F(HttpServerTest, RefusesOtherPathsAndMethods) {
  start();
  EXPECT_TRUE(get("/").starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(get("/metrics/").starts_with("HTTP/1.1 404 "));
  const auto answer = ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 405 ")) << answer;
  EXPECT_NE(answer.find("Allow: GET, HEAD\r\n"), std::string::npos);
}

TEST_F(HttpServerTest, RefusesGarbageAndLongHeaders) {
  start();
  EXPECT_TRUE(ask("\x16\x03\x01 hello\r\n\r\n").starts_with("HTTP/1.1 400 "));
  const auto answer = ask("GET /metrics HTTP/1.1\r\nX: " + std::string(9000, 'a') + "\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 431 ")) << answer.substr(0, 100);
  EXPECT_TRUE(get("/healthz").starts_with("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, OneRequestAConnection) {
  start();
  const std::string request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n";
  const auto answer = ask(request + request);
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
  EXPECT_EQ(renderings, 1);
}

TEST_F(HttpServerTest, AStalledClientIsGivenUp) {
  start({.timeout = std::chrono::seconds(1)});  // what comes later than that is reset
  const auto fd = dial(server->port());
  send_all(fd, "GET /metr");
  EXPECT_EQ(read_all(fd), "");  // closed by the server
}

TEST_F(HttpServerTest, StalledClientsOnAllConnectionsDoNotKeepOthersOut) {
  start({.max_connections = 4,
         .timeout = std::chrono::hours(1),
         .patience = std::chrono::hours(1),
         .idle_patience = std::chrono::milliseconds(20)});
  std::vector<base::Fd> stalled;
  for (int i = 0; i < 8; ++i) {
    stalled.push_back(dial(server->port()));
    if (i % 2) send_all(stalled.back(), "GET /metr");
  }
  EXPECT_TRUE(get("/healthz").starts_with("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, AReaderThatTakesNothingDelaysNobody) {
  body = std::string(64 << 20, 'x');  // more than socket buffers take
  start();
  const auto lazy = dial(server->port());
  send_all(lazy, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(get("/healthz").starts_with("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, AHundredScrapesAtOnceAreAllAnswered) {
  body = std::string(1 << 20, 'x');
  // Of so many threads some wait for a processor between their connect() and their request.
  start({.timeout = std::chrono::hours(1),
         .patience = std::chrono::hours(1),
         .idle_patience = std::chrono::hours(1)});
  std::vector<std::future<std::size_t>> scrapes;
  for (int i = 0; i < 100; ++i)
    scrapes.push_back(std::async(std::launch::async, [&] { return get("/metrics").size(); }));
  for (auto& scrape : scrapes) EXPECT_GT(scrape.get(), body.size());
}

TEST_F(HttpServerTest, ServesIpv6) {
  start({.address = "[::]:0"});
  for (const char* address : {"::1", "127.0.0.1"}) {
    const auto fd = dial(server->port(), address);
    ASSERT_TRUE(fd) << address;
    send_all(fd, "GET /healthz HTTP/1.0\r\n\r\n");
    EXPECT_TRUE(read_all(fd).value_or("").find(" 200 ") != std::string::npos) << address;
  }
}

TEST_F(HttpServerTest, StopsWithClientsConnected) {
  start({.idle_patience = std::chrono::milliseconds(1)});
  const auto fd = dial(server->port());
  send_all(fd, "GET");
  get("/healthz");  // the other one has been accepted: they queue
  server.reset();
  EXPECT_LE(read_all(fd).value_or("").size(), 0u);
}

// At a handover, or a stop: what was accepted is answered, and nobody else is let in.
TEST_F(HttpServerTest, WhoeverIsInTheMiddleOfAskingIsAnsweredAtTheEnd) {
  start({.timeout = std::chrono::hours(1),
         .patience = std::chrono::hours(1),
         .idle_patience = std::chrono::hours(1)});
  const auto port = server->port();
  auto fd = dial(port);
  send_all(fd, "GET /healthz HTTP/1.1\r\n");
  get("/healthz");  // the other one has been accepted: they queue
  auto ended = std::async(std::launch::async, [&] { server.reset(); });
  while (dial(port)) std::this_thread::yield();
  EXPECT_EQ(ended.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  send_all(fd, "Host: x\r\n\r\n");
  EXPECT_TRUE(read_all(fd).value_or("").starts_with("HTTP/1.1 200 "));
  fd = base::Fd();  // it is seen off
  ended.get();
}

TEST_F(HttpServerTest, ErrorsNameTheFlag) {
  start();
  const auto taken = "127.0.0.1:" + std::to_string(server->port());
  const auto second = HttpServer::start({.address = taken}, {});
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.status().message().find("--metrics " + taken), absl::string_view::npos)
      << second.status();
  for (const char* odd :
       {"", "15020", "localhost:15020", "0.0.0.0:70000", "::1:15020", "[0.0.0.0]:1", "[]:1"}) {
    const auto status = HttpServer::start({.address = odd}, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << odd;
    EXPECT_NE(status.message().find("--metrics"), absl::string_view::npos) << status;
  }
}

}  // namespace
}  // namespace weft::observe
