// /metrics, /healthz and /readyz, on a thread of its own: whatever clients do, the control thread
// does not notice. One request a connection; bounded connections, header size and time.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace weft::observe {

// Called on the server's thread only.
struct HttpHandlers {
  std::function<std::shared_ptr<const std::string>()> metrics;  // never null
  std::function<std::string()> unhealthy;                       // why; empty: /healthz answers 200
  std::function<std::string()> not_ready;                       // why; empty: /readyz answers 200
};

struct HttpOptions {
  std::string address = "0.0.0.0:15020";  // --metrics; "[::]:15020" for IPv6
  // A predecessor's listening socket, used where it is bound to that address: whoever connects
  // meanwhile waits in its queue. The server takes it. -1: none.
  int listener = -1;
  std::size_t max_connections = 32;
  std::chrono::milliseconds timeout =
      std::chrono::seconds(10);  // for a request, and for its answer
  // While all connections are taken, one that is being answered is given up once it has had this
  // long, and one that has yet to ask something much sooner: whoever scrapes or probes asks at
  // once.
  std::chrono::milliseconds patience = std::chrono::seconds(1);
  std::chrono::milliseconds idle_patience = std::chrono::milliseconds(20);
};

class HttpServer {
 public:
  // Listens when it returns. Errors name --metrics.
  static absl::StatusOr<std::unique_ptr<HttpServer>> start(const HttpOptions& options,
                                                           HttpHandlers handlers);
  // Whether it is an address that could be listened on; the error names --metrics.
  static absl::Status check_address(const std::string& address);
  // Blocks until the connections it has are answered and closed, `patience` at most; ten times
  // `idle_patience` where none of them has asked yet.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int listener() const;        // stays the server's
  std::uint16_t port() const;  // the real one where port 0 was asked for

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weft::observe
