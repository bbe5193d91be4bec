// GETs over one kept-alive HTTP/1.1 connection, plain or TLS, with bodies as streams. On the
// io_context it was made with. Beast and OpenSSL stay in the .cc.
#pragma once

#include <absl/status/status.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "control_plane/sources/kubernetes/kubeconfig.h"

namespace weft::sources::kubernetes {

struct HttpEvents {
  // The answer's header: status, and Retry-After in seconds where it is there.
  std::function<void(int status, std::optional<int> retry_after)> header;
  // Bytes of its body; false: hang up.
  std::function<bool(std::string_view)> body;
  // How long the next bytes may take.
  std::function<std::chrono::seconds()> patience;
};

class HttpClient {
 public:
  explicit HttpClient(boost::asio::io_context& io);
  ~HttpClient();  // hangs up
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Whom to call and how to trust him, from the next connection on; ends the one there is. Error:
  // certificates or keys that cannot be used; then all stays as it was.
  absl::Status set_access(const Access& access);

  // One request at a time; `accept` and `authorization` are its headers. Empty: the answer was
  // whole; else why it is not. Bytes of a broken answer have been handed out up to there. The
  // client outlives the call, or `io` is never run again.
  boost::asio::awaitable<std::string> get(std::string target, std::string accept,
                                          std::string authorization, HttpEvents events);
  void hang_up();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace weft::sources::kubernetes
