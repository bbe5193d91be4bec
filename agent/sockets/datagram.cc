#include "agent/sockets/datagram.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace weft::sockets {
namespace {

constexpr std::size_t kRoom = 64;  // of every message of protocol.h, and more

union Control {
  cmsghdr header;  // for its alignment
  char bytes[CMSG_SPACE(kMostDescriptors * sizeof(int))];
};

}  // namespace

int send_datagram(int socket, std::span<const std::byte> bytes,
                  std::span<const base::Fd> descriptors) {
  if (descriptors.size() > kMostDescriptors) return E2BIG;
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  Control control{};
  if (!descriptors.empty()) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
      const int fd = descriptors[i].get();
      std::memcpy(CMSG_DATA(header) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  for (;;) {
    if (sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return 0;
    if (errno != EINTR) return errno;
  }
}

int receive_datagram(int socket, Datagram& datagram) {
  std::byte room[kRoom];
  iovec part{room, sizeof room};
  Control control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  ssize_t length;
  do {
    length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (length < 0 && errno == EINTR);
  if (length < 0) return errno;
  datagram.descriptors.clear();
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      datagram.descriptors.emplace_back(fd);
    }
  }
  if (length == 0) return ECONNRESET;  // no message of ours is empty
  datagram.bytes.assign(room, room + length);
  datagram.cut = message.msg_flags & (MSG_TRUNC | MSG_CTRUNC);
  return 0;
}

}  // namespace weft::sockets
