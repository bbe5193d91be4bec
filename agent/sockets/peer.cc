#include "agent/sockets/peer.h"

#include <cerrno>

namespace weft::sockets {
namespace {

bool is_gone(int error) { return error == EPIPE || error == ECONNRESET || error == ENOTCONN; }

}  // namespace

bool Peer::answer(std::span<const std::byte> bytes, std::span<const base::Fd> descriptors,
                  std::span<const std::byte> without) {
  const int error = send_datagram(socket_.get(), bytes, descriptors);
  if (!error) return true;
  if (is_gone(error)) return false;
  owed_.assign(without.begin(), without.end());
  return error == EAGAIN || settle();
}

bool Peer::settle() {
  if (owed_.empty()) return true;
  const int error = send_datagram(socket_.get(), owed_);
  if (error == EAGAIN) return true;
  owed_.clear();
  return error == 0;
}

}  // namespace weft::sockets
