#include "userspace_proxy/net/socket_source.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

namespace weft::net {

void OwnSockets::take(std::uint64_t, model::Family family, Done done) {
  const int number = family == model::Family::kIpv4 ? AF_INET : AF_INET6;
  base::Fd fd(socket(number, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return done({}, errno);
  const int one = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  done(std::move(fd), 0);
}

void StockSockets::take(std::uint64_t netns_cookie, model::Family family, Done done) {
  const Key key{netns_cookie, family};
  auto& stock = stocks_[key];
  if (stock.sockets.empty()) {
    stock.waiting.push_back(std::move(done));
    return ask(key, stock);
  }
  auto fd = std::move(stock.sockets.back());
  stock.sockets.pop_back();
  if (stock.sockets.size() < kBatch / 4) ask(key, stock);
  done(std::move(fd), 0);
}

void StockSockets::ask(const Key& key, Stock& stock) {
  if (stock.asked) return;
  stock.asked = true;
  ask_(key.first, key.second, [this, key](std::vector<base::Fd> sockets, int error) {
    answer(key, std::move(sockets), error);
  });
}

void StockSockets::answer(const Key& key, std::vector<base::Fd> sockets, int error) {
  const auto found = stocks_.find(key);
  if (found == stocks_.end()) return;  // forgotten meanwhile
  auto& stock = found->second;
  stock.asked = false;
  for (auto& socket : sockets) stock.sockets.push_back(std::move(socket));
  const bool none = stock.sockets.empty();
  auto waiting = std::move(stock.waiting);
  stock.waiting.clear();
  // A done() may take another socket, or forget the namespace: nothing of `stock` is used below.
  for (auto& done : waiting)
    none ? done({}, error ? error : EMFILE) : take(key.first, key.second, std::move(done));
}

void StockSockets::forget(std::uint64_t netns_cookie) {
  for (const auto family : {model::Family::kIpv4, model::Family::kIpv6}) {
    const auto found = stocks_.find({netns_cookie, family});
    if (found == stocks_.end()) continue;
    auto waiting = std::move(found->second.waiting);
    stocks_.erase(found);
    for (auto& done : waiting) done({}, ENETDOWN);
  }
}

}  // namespace weft::net
