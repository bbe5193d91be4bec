#include "agent/proxy/adopt.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <optional>
#include <set>

#include "abi/capture.h"
#include "agent/proxy/process.h"
#include "mesh/base/text.h"

namespace weft::proxy {
namespace {

namespace fs = std::filesystem;

constexpr int kSoNetnsCookie = 71;  // SO_NETNS_COOKIE, Linux 5.14

template <class T>
std::optional<T> option(int fd, int name) {
  T value{};
  socklen_t length = sizeof value;
  if (getsockopt(fd, SOL_SOCKET, name, &value, &length)) return std::nullopt;
  return value;
}

// Which bit it is; 0: no listener of ours.
std::uint32_t family_of(int fd) {
  if (option<int>(fd, SO_ACCEPTCONN).value_or(0) != 1) return 0;
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length)) return 0;
  if (storage.ss_family == AF_INET) {
    sockaddr_in address;
    std::memcpy(&address, &storage, sizeof address);
    const bool ours = ntohs(address.sin_port) == WEFT_CAPTURE_PORT &&
                      address.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
    return ours ? std::uint32_t{WEFT_LISTENING_V4} : 0;
  }
  if (storage.ss_family != AF_INET6) return 0;
  sockaddr_in6 address;
  std::memcpy(&address, &storage, sizeof address);
  const bool ours = ntohs(address.sin6_port) == WEFT_CAPTURE_PORT &&
                    IN6_ARE_ADDR_EQUAL(&address.sin6_addr, &in6addr_loopback);
  return ours ? std::uint32_t{WEFT_LISTENING_V6} : 0;
}

// Its descriptors that are sockets.
std::vector<int> sockets_of(pid_t pid) {
  std::vector<int> numbers;
  std::error_code gone;
  for (fs::directory_iterator at("/proc/" + std::to_string(pid) + "/fd", gone), end;
       !gone && at != end; at.increment(gone)) {
    struct stat info;
    if (stat(at->path().c_str(), &info) || !S_ISSOCK(info.st_mode)) continue;
    if (const auto number = base::parse_number<int>(at->path().filename().string()))
      numbers.push_back(*number);
  }
  return numbers;
}

void add(base::Fd fd, std::map<std::uint64_t, Adopted>& found) {
  const auto family = family_of(fd.get());
  const auto cookie = family ? option<std::uint64_t>(fd.get(), kSoNetnsCookie) : std::nullopt;
  if (!cookie) return;
  auto& adopted = found[*cookie];
  if (adopted.families & family) return;  // the same one in another process, or a copy
  adopted.families |= family;
  const bool first = family == WEFT_LISTENING_V4;
  adopted.listeners.insert(first ? adopted.listeners.begin() : adopted.listeners.end(),
                           std::move(fd));
}

}  // namespace

std::map<std::uint64_t, Adopted> listeners_of(const std::vector<pid_t>& processes) {
  std::map<std::uint64_t, Adopted> found;
  for (const auto pid : processes) {
    const auto process = open_process(pid);
    if (!process.ok()) continue;
    for (const int number : sockets_of(pid))
      if (base::Fd fd(static_cast<int>(syscall(SYS_pidfd_getfd, process->pidfd.get(), number, 0)));
          fd)
        add(std::move(fd), found);
  }
  return found;
}

}  // namespace weft::proxy
