// Where upstream sockets come from: weft-sockets, which makes them in the caller's network
// namespace, or, without it (benchmarks, tests), socket(2). Of one worker's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "mesh/base/fd.h"
#include "mesh/model/address.h"

namespace weft::net {

class SocketSource {
 public:
  // Called once, at once or later: a socket, or none and an errno.
  using Done = std::function<void(base::Fd, int error)>;

  virtual ~SocketSource() = default;
  virtual void take(std::uint64_t netns_cookie, model::Family family, Done done) = 0;
  virtual void forget(std::uint64_t) {}  // the workload is gone
};

class OwnSockets : public SocketSource {
 public:
  void take(std::uint64_t netns_cookie, model::Family family, Done done) override;
};

// Keeps a few of each namespace in stock, so that a connect seldom waits for another process.
class StockSockets : public SocketSource {
 public:
  static constexpr std::uint16_t kBatch = 16;
  // Asks for a batch; `answer` is called once, on this worker's thread.
  using Answer = std::function<void(std::vector<base::Fd> sockets, int error)>;
  using Ask = std::function<void(std::uint64_t netns_cookie, model::Family family, Answer answer)>;

  explicit StockSockets(Ask ask) : ask_(std::move(ask)) {}
  void take(std::uint64_t netns_cookie, model::Family family, Done done) override;
  void forget(std::uint64_t netns_cookie) override;

 private:
  using Key = std::pair<std::uint64_t, model::Family>;
  struct Stock {
    std::vector<base::Fd> sockets;
    std::deque<Done> waiting;
    bool asked = false;
  };
  void ask(const Key& key, Stock& stock);
  void answer(const Key& key, std::vector<base::Fd> sockets, int error);

  Ask ask_;
  std::map<Key, Stock> stocks_;
};

}  // namespace weft::net
