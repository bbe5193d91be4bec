// weft-sockets: makes the sockets that weft-proxy accepts on and connects with, in its callers'
// network namespaces. It may do that and nothing else; weft-proxy may not. Started by weftd.
#include <fcntl.h>

#include <cstdio>
#include <string>

#include "agent/sockets/privileges.h"
#include "agent/sockets/server.h"
#include "mesh/base/log.h"

namespace {

int fail(const absl::Status& status) {
  weft::log::error("weft-sockets", {{"error", std::string(status.message())}});
  return 1;
}

}  // namespace

int main(int argc, char**) {
  using namespace weft::sockets;
  if (argc > 1) {
    std::fputs("weft-sockets is started by weftd (docs/proxy.md) and takes no arguments\n", stderr);
    return 2;
  }
  weft::base::Fd control(kControlDescriptor), own_sockets(kOwnSocketsDescriptor);
  weft::base::Fd bypass_readers(
      fcntl(kBypassReadersDescriptor, F_GETFD) < 0 ? -1 : kBypassReadersDescriptor);
  if (const auto status = keep_what_is_needed(); !status.ok()) return fail(status);
  auto namespaces = Namespaces::at_home();
  if (!namespaces.ok()) return fail(namespaces.status());
  Server server(std::move(control), {std::move(own_sockets), std::move(bypass_readers)},
                *std::move(namespaces));
  const auto status = server.run();
  return status.ok() ? 0 : fail(status);
}
