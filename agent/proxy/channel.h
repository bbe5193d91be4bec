// Messages and descriptors over a Unix stream socket, as proto/weft/v1/proxy.proto frames them.
// Never blocks: what the other side does not take waits here, for as long as it is let live.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/base/fd.h"
#include "mesh/wire/frame.h"

namespace weft::proxy {

class Channel {
 public:
  // `received` is told each message; `closed` once, when the other side has closed or broken the
  // frame. Both on the io_context's thread, and never from within send().
  struct Events {
    std::function<void(std::string_view)> received;
    std::function<void()> closed;
  };
  Channel(boost::asio::io_context& io, base::Fd socket, Events events);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Descriptors are copied: they stay the caller's. A message that is too long closes the channel.
  void send(const google::protobuf::MessageLite& message, const std::vector<int>& descriptors = {});

 private:
  struct Frame {
    std::string bytes;
    std::vector<base::Fd> descriptors;  // go with its first byte
    std::size_t sent = 0;
  };

  void write_some();
  bool write_front();
  void wait_to_write();
  void wait_to_read();
  void read_some();
  bool take_frames();
  void close();

  boost::asio::posix::stream_descriptor socket_;
  Events events_;
  std::deque<Frame> out_;
  bool waiting_to_write_ = false;
  wire::FrameReader in_;
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

// Two connected ends, close-on-exec; ours does not block.
struct Ends {
  base::Fd ours, theirs;
};
Ends make_ends(int type);  // SOCK_STREAM, SOCK_SEQPACKET; empty where there are no descriptors left

}  // namespace weft::proxy
