// One end of a seqpacket socket that is asked things and must never wait for whoever asks.
//
// An answer that finds the asker's socket full is dropped with its descriptors; that it was, is
// said as soon as there is room, and until then nothing more is read from there. So a slow asker
// costs one small answer.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "agent/sockets/datagram.h"

namespace weft::sockets {

class Peer {
 public:
  explicit Peer(base::Fd socket) : socket_(std::move(socket)) {}

  int socket() const { return socket_.get(); }
  bool owes() const { return !owed_.empty(); }

  // `without`: what to say where the descriptors cannot be sent. False where the asker is gone.
  bool answer(std::span<const std::byte> bytes, std::span<const base::Fd> descriptors,
              std::span<const std::byte> without);
  // There is room again. False where the asker is gone.
  bool settle();

 private:
  base::Fd socket_;
  std::vector<std::byte> owed_;
};

}  // namespace weft::sockets
