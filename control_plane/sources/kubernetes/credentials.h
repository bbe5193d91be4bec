// The secret for a request, which changes under us: kubelet swaps a token every hour, certificates
// are renewed, a plugin's answer expires.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <optional>
#include <string>

#include "control_plane/sources/kubernetes/kubeconfig.h"

namespace weft::sources::kubernetes {

// Not for two threads at once: while refresh() runs elsewhere nobody calls anything else.
class Credentials {
 public:
  using Time = std::chrono::system_clock::time_point;

  explicit Credentials(Access access,
                       std::chrono::milliseconds plugin_limit = std::chrono::seconds(10));

  // As it was given, with the newest of what files and the plugin gave.
  const Access& access() const { return access_; }

  // Reads files again where they may have changed, at most once a second, and runs the exec plugin
  // within a minute of the end of what it gave (of less than two minutes: in their second half).
  // May block for the plugin's time limit. True: TLS material changed, make a new TLS context.
  //
  // An error leaves what was there in force. It is told by every call until it is mended, and tried
  // again once a second; TLS material that changed beside it is told first. So the caller reports
  // it, and goes on if it has anything to go on with: where a plugin never answered,
  // authorization() and the client certificate are empty, and the server would take it for
  // anonymous.
  absl::StatusOr<bool> refresh(Time now);

  std::string authorization() const;  // "Bearer ...", "Basic ..." or ""

  // The server said 401: the next refresh() reads and runs everything anew, whatever it looks like.
  void rejected() { rejected_ = true; }

 private:
  absl::Status look(Time now);
  absl::Status read_token();
  absl::Status read_authorities();
  absl::Status read_client_certificate();
  absl::Status ask_plugin(Time now);

  Access access_;
  std::chrono::milliseconds plugin_limit_;
  FileState token_seen_, authorities_seen_, certificate_seen_, key_seen_;
  Time plugin_due_ = Time::min();
  std::optional<Time> looked_;
  bool rejected_ = false;
  bool tls_changed_ = false;  // and not told yet
  absl::Status trouble_;      // of the last look
};

}  // namespace weft::sources::kubernetes
