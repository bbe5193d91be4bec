// The one channel to weft-sockets, for all workers. Lives on the control thread; workers ask it
// through its loop.
#pragma once

#include <cstdint>
#include <map>

#include "mesh/base/fd.h"
#include "userspace_proxy/net/loop.h"
#include "userspace_proxy/net/socket_source.h"

namespace weft::net {

class SocketHub final : public Loop::Watcher {
 public:
  // `channel`: a seqpacket socket to weft-sockets (docs/proxy.md, "the datagrams of descriptor 4").
  SocketHub(Loop& loop, base::Fd channel);

  // From any thread; the answer is run by `asker`.
  void ask(std::uint64_t netns_cookie, model::Family family, Loop& asker,
           StockSockets::Answer answer);

 private:
  struct Waiting {
    Loop* asker;
    StockSockets::Answer answer;
  };
  void send(std::uint64_t netns_cookie, model::Family family, Waiting waiting);
  void on_ready(std::uint32_t events) override;
  bool read_answer();
  void give_up(int error);
  static void pass(Waiting waiting, std::vector<base::Fd> sockets, int error);

  Loop& loop_;
  base::Fd channel_;
  std::map<std::uint32_t, Waiting> waiting_;  // by tag
  std::uint32_t next_tag_ = 1;
};

}  // namespace weft::net
