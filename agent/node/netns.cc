#include "agent/node/netns.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "mesh/base/fd.h"

namespace weft::node {
namespace {

// Moves the calling thread into the process's network namespace.
std::optional<std::uint64_t> enter_and_ask(long pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/net";
  const base::Fd netns(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!netns || setns(netns.get(), CLONE_NEWNET)) return std::nullopt;
  const base::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  // Linux 5.14.
  if (!fd || getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length))
    return std::nullopt;
  return cookie;
}

// Of the first process in this very cgroup that can be asked.
std::optional<std::uint64_t> cookie_in(const std::filesystem::path& cgroup) {
  std::ifstream file(cgroup / "cgroup.procs");
  // 0: a process that our PID namespace does not show.
  for (long pid = 0; file >> pid;)
    if (const auto cookie = pid > 0 ? enter_and_ask(pid) : std::nullopt) return cookie;
  return std::nullopt;
}

std::optional<std::uint64_t> cookie_below(const std::string& cgroup) {
  namespace fs = std::filesystem;
  if (const auto cookie = cookie_in(cgroup)) return cookie;
  // Cgroups come and go while this looks: an error ends the walk, and the caller asks again.
  std::error_code gone;
  for (fs::recursive_directory_iterator at(cgroup, gone), end; !gone && at != end;
       at.increment(gone)) {
    std::error_code ignored;
    if (!at->is_directory(ignored)) continue;
    if (const auto cookie = cookie_in(at->path())) return cookie;
  }
  return std::nullopt;
}

// Of the calling thread's namespace.
std::vector<model::Address> addresses_here() {
  std::vector<model::Address> found;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all)) return found;
  for (const auto* at = all; at; at = at->ifa_next) {
    if (!at->ifa_addr) continue;
    model::Address address;
    if (at->ifa_addr->sa_family == AF_INET) {
      sockaddr_in v4;
      std::memcpy(&v4, at->ifa_addr, sizeof v4);
      address.bytes[10] = address.bytes[11] = 0xff;  // v4-mapped
      std::memcpy(&address.bytes[12], &v4.sin_addr, sizeof v4.sin_addr);
    } else if (at->ifa_addr->sa_family == AF_INET6) {
      sockaddr_in6 v6;
      std::memcpy(&v6, at->ifa_addr, sizeof v6);
      std::memcpy(address.bytes.data(), &v6.sin6_addr, sizeof v6.sin6_addr);
    } else {
      continue;
    }
    found.push_back(address);
  }
  freeifaddrs(all);
  return found;
}

}  // namespace

std::vector<model::Address> addresses_in_netns(int netns) {
  std::vector<model::Address> found;
  std::thread([&] {
    if (setns(netns, CLONE_NEWNET) == 0) found = addresses_here();
  }).join();
  return found;
}

std::optional<std::uint64_t> netns_cookie_of_cgroup(const std::string& cgroup_path) {
  std::optional<std::uint64_t> cookie;
  // On a thread of its own: the namespaces it enters end with it.
  std::thread([&] { cookie = cookie_below(cgroup_path); }).join();
  return cookie;
}

}  // namespace weft::node
