// How to reach an API server: what a kubeconfig's current context or a pod's service account says.
// credentials.h keeps up with the changes of the files that they name.
//
// Where kubectl guesses or passes over something, this refuses it by name: an agent that runs for
// months must not go on as somebody else, or in clear text, because a field was not understood.
#pragma once

#include <sys/stat.h>

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft::sources::kubernetes {

struct ExecPlugin {
  std::string command;
  std::vector<std::string> args;
  std::vector<std::pair<std::string, std::string>> env;
  std::string api_version;   // client.authentication.k8s.io/v1 or v1beta1
  std::string cluster_json;  // for the plugin, where provideClusterInfo asks for it; else empty

  bool operator==(const ExecPlugin&) const = default;
};

struct Access {
  bool tls = true;
  std::string host;  // a name or an address; IPv6 without brackets
  std::uint16_t port = 443;
  std::string path_prefix;  // of the server URL: "" or "/..." without a slash at its end
  std::string server_name;  // for SNI and verification; empty: host
  std::string ca_pem;       // empty with tls: the system's authorities
  std::string ca_file;      // where ca_pem was read from, to be read again (rotation)
  bool insecure = false;    // insecure-skip-tls-verify
  std::string client_cert_pem, client_key_pem;
  std::string client_cert_file, client_key_file;
  std::string token;
  std::string token_file;  // wins over a token beside it, as in client-go
  std::string basic_user, basic_password;
  std::optional<ExecPlugin> exec;
  std::string origin;  // the kubeconfig's path, or "in-cluster service account": for messages

  bool operator==(const Access&) const = default;
};

// The current context of a kubeconfig, YAML or JSON. Relative paths are relative to the file.
// Errors name the file, the line and what is missing, and quote no secret.
absl::StatusOr<Access> read_kubeconfig(const std::string& path);

// A pod's own: KUBERNETES_SERVICE_HOST and _PORT, and the files of its service account.
absl::StatusOr<Access> in_cluster(
    const std::string& directory = "/var/run/secrets/kubernetes.io/serviceaccount");

// --- what credentials.h reads again by the same rules ---

// What tells one state of a file from another without reading it.
struct FileState {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = -1;
  timespec modified{};
  // The file was quiet when it was read. Time stamps tick in milliseconds: what is written twice in
  // one tick looks alike, so a young file proves nothing.
  bool settled = false;

  bool proves_unchanged(const struct stat& info) const;
};

struct FileText {
  FileState state;  // of what was read
  std::string text;
};

// A regular file of at most 8 MB. Errors begin with the path.
absl::StatusOr<FileText> read_small_file(const std::string& path);

// Judged as far as that goes without a TLS library: enough to see that it is half written, damaged
// or something else. These errors say what is wrong, not where it came from.
enum class Material { kCertificate, kPrivateKey };
absl::Status check_pem(std::string_view text, Material material);
// Without the newline around it; refuses what cannot stand in an HTTP header.
absl::StatusOr<std::string> clean_token(std::string_view text);

}  // namespace weft::sources::kubernetes
