#include "cli/admin_client.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "mesh/base/fd.h"

namespace weft::cli {
namespace {

constexpr std::size_t kMaxAnswer = 64u << 20;
constexpr int kTimeoutSeconds = 10;  // twice the agent's own

absl::StatusOr<base::Fd> dial(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return absl::InvalidArgumentError("--run-dir is too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  base::Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval timeout{kTimeoutSeconds, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return fd;
  if (errno == EAGAIN || errno == EACCES)
    return absl::FailedPreconditionError("the agent's socket " + path + " does not take me (" +
                                         std::strerror(errno) + ")" +
                                         (errno == EACCES ? ": run it with sudo" : ""));
  return absl::UnavailableError("no agent answers at " + path + " (" + std::strerror(errno) +
                                "): start weftd, or point --run-dir at its directory");
}

}  // namespace

absl::StatusOr<nlohmann::ordered_json> ask_agent(const std::string& run_dir,
                                                 const std::string& command,
                                                 const std::string& service) {
  nlohmann::ordered_json request{{"command", command}};
  if (!service.empty()) request["service"] = service;
  return send_request(run_dir, std::move(request));
}

absl::StatusOr<nlohmann::ordered_json> send_request(const std::string& run_dir,
                                                    nlohmann::ordered_json request) {
  auto fd = dial(run_dir + "/weftd.sock");
  if (!fd.ok()) return fd.status();
  request["version"] = 1;
  const std::string line = request.dump() + "\n";
  if (send(fd->get(), line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size()))
    return absl::UnavailableError("the agent does not read its admin socket");
  std::string answer;
  char buffer[64 * 1024];
  for (ssize_t got;
       answer.size() < kMaxAnswer && (got = recv(fd->get(), buffer, sizeof buffer, 0)) != 0;) {
    if (got < 0)
      return absl::DeadlineExceededError(std::string("the agent does not answer: ") +
                                         std::strerror(errno));
    answer.append(buffer, static_cast<std::size_t>(got));
  }
  if (answer.empty()) return absl::InternalError("the agent ended before it answered");
  auto reply = nlohmann::ordered_json::parse(answer, nullptr, /*allow_exceptions=*/false);
  if (reply.is_discarded() || !reply.is_object())
    return absl::InternalError("the agent's answer is not JSON");
  if (!reply.value("ok", false))
    return absl::FailedPreconditionError(reply.value("error", "the agent refused"));
  return reply["result"];
}

}  // namespace weft::cli
