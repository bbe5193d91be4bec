// weft-sockets, as weftd sees it: the process in the proxy's cgroup that makes the sockets which
// must be that cgroup's, in the namespaces of workloads. Started with weftd and for as long as it
// lives; where it dies its owner makes another one, and tells it everything again.
#pragma once

#include <absl/status/statusor.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/proxy/process.h"
#include "agent/sockets/protocol.h"
#include "mesh/base/fd.h"

namespace weft::proxy {

class Sockets {
 public:
  struct Program {
    std::string path;
    std::string cgroup;
    int own_sockets_map = -1;  // the caller's
    int bypass_readers = -1;   // map weft_bypass_readers, the caller's; -1: there is no bypass
  };
  struct Listening {
    std::vector<base::Fd> listeners;  // one for each bit, IPv4 first
    std::uint32_t families = 0;       // enum weft_listening, or-ed
    std::string error;                // why there is none of a family
  };

  // `died` once, on the io_context's thread; it may destroy this.
  static absl::StatusOr<std::unique_ptr<Sockets>> start(boost::asio::io_context& io,
                                                        const Program& program,
                                                        std::function<void(std::string how)> died);
  Sockets(const Sockets&) = delete;
  Sockets& operator=(const Sockets&) = delete;

  void add(std::uint64_t cookie, int netns);
  void drop(std::uint64_t cookie);
  // `done` is not called where it dies meanwhile.
  void listen(std::uint64_t cookie, std::function<void(Listening)> done);
  // The socket that a generation of weft-proxy asks through.
  absl::StatusOr<base::Fd> add_proxy(std::uint32_t generation);

  pid_t pid() const { return process_.pid; }

 private:
  using Done = std::function<void(const sockets::ControlAnswer&, std::vector<base::Fd>)>;
  struct Request {
    sockets::ControlRequest what;
    std::vector<base::Fd> descriptors;
  };

  Sockets(boost::asio::io_context& io, Process process, base::Fd control,
          std::function<void(std::string)> died);
  void ask(sockets::Order order, std::uint64_t cookie, std::uint64_t generation, base::Fd with,
           Done done);
  void write();
  void wait_to_write();
  void wait_to_read();
  bool read_one();
  void wait_for_end();

  Process process_;
  boost::asio::posix::stream_descriptor control_, end_;
  std::function<void(std::string)> died_;
  std::deque<Request> requests_;  // not sent yet
  bool waiting_to_write_ = false;
  std::map<std::uint32_t, Done> answers_;  // by tag
  std::uint32_t last_tag_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

}  // namespace weft::proxy
