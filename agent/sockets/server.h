// The loop of weft-sockets: orders of weftd, questions of each generation of weft-proxy. One
// thread; it waits in epoll and nowhere else.
#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <map>
#include <memory>

#include "agent/sockets/make.h"
#include "agent/sockets/namespaces.h"
#include "agent/sockets/peer.h"
#include "agent/sockets/protocol.h"

namespace weft::sockets {

class Server {
 public:
  Server(base::Fd control, Marks marks, Namespaces namespaces);

  // Until the control socket is closed and no proxy is left that asks.
  absl::Status run();

 private:
  struct Proxy {
    std::uint64_t generation;
    Peer peer;
  };

  int watch(int operation, int fd, bool owes);
  void serve_control();
  void lose_control();
  void carry_out(const ControlRequest& request, std::vector<base::Fd> descriptors);
  void listen_in(std::uint64_t cookie, ControlAnswer& answer, std::vector<base::Fd>& listeners);
  int add_proxy(std::uint64_t generation, base::Fd socket);
  void serve_proxy(Proxy& proxy);
  bool answer(Proxy& proxy, const Ask& ask);
  void drop_proxy(int fd, const char* why);
  void wake(int fd, bool readable);

  Peer control_;
  Marks marks_;
  Namespaces namespaces_;
  base::Fd epoll_;
  std::map<int, Proxy> proxies_;  // by descriptor
  bool orphan_ = false;           // the control socket is closed
  bool done_ = false;
};

}  // namespace weft::sockets
