// The network namespaces that sockets are made in. A namespace lives for as long as it is here:
// weftd says when its workload has gone.
#pragma once

#include <absl/status/statusor.h>

#include <cerrno>
#include <cstdint>
#include <map>

#include "mesh/base/fd.h"

namespace weft::sockets {

class Namespaces {
 public:
  // `home` is where this thread is.
  static absl::StatusOr<Namespaces> at_home();

  void add(std::uint64_t cookie, base::Fd netns) { known_[cookie] = std::move(netns); }
  void drop(std::uint64_t cookie) { known_.erase(cookie); }
  std::size_t size() const { return known_.size(); }

  // Runs `act` in that namespace, kOwnNamespace for home; 0 or the errno of getting there. Ends the
  // process where there is no way back: nothing must be made in a namespace by mistake.
  template <class F>
  int within(std::uint64_t cookie, F&& act) {
    const bool abroad = cookie != 0;
    if (abroad)
      if (const int error = enter(cookie)) return error;
    act();
    if (abroad) come_home();
    return 0;
  }

 private:
  explicit Namespaces(base::Fd home) : home_(std::move(home)) {}
  int enter(std::uint64_t cookie);
  void come_home();

  base::Fd home_;
  std::map<std::uint64_t, base::Fd> known_;
};

}  // namespace weft::sockets
