#include "userspace_proxy/net/origin.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "abi/capture.h"

namespace weft::net {

std::optional<Origin> origin_of(int fd, const Caller& caller) {
  weft_origin answer{};
  socklen_t length = sizeof answer;
  if (getsockopt(fd, WEFT_SOL, WEFT_SO_ORIGIN, &answer, &length) != 0 || length != sizeof answer)
    return std::nullopt;
  Origin origin;
  std::memcpy(origin.dialled.address.bytes.data(), answer.addr.byte, 16);
  origin.dialled.port = ntohs(answer.port);
  origin.owner = caller.host_network ? answer.cgroup_id : caller.netns_cookie;
  return origin;
}

}  // namespace weft::net
