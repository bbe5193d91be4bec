// A cluster as one worker sees it: whose turn it is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "userspace_proxy/net/breaker.h"
#include "userspace_proxy/net/config.h"

namespace weft::net {

// xoroshiro-like, one a worker: balancing and jitter need speed, not secrecy.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed | 1) {}
  std::uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  std::uint32_t next32() { return static_cast<std::uint32_t>(next() >> 32); }
  std::uint32_t below(std::uint32_t bound) {
    return static_cast<std::uint32_t>(std::uint64_t{next32()} * bound >> 32);
  }

 private:
  std::uint64_t state_;
};

struct Picked {
  const Endpoint* endpoint = nullptr;  // null: nobody
  bool probe = false;
  bool all_ejected = false;  // there are endpoints, but breakers keep them all away
};

class LocalCluster {
 public:
  explicit LocalCluster(ClusterPtr config);

  const Cluster& config() const { return *config_; }
  const ClusterPtr& pointer() const { return config_; }

  // Of the best priority that has one whose breaker lets the request pass. `family` is the dialled
  // address's: as in the kernel, endpoints of the other are for those who have none of this.
  // `tried`: endpoints that failed this request already; they come last.
  Picked pick(model::Family family, std::span<const Shares* const> tried, const Breaker& breaker,
              Random& random, std::uint64_t now_ms);

 private:
  struct Group {
    std::vector<std::uint32_t> slots;  // indexes of endpoints, as often as their weight asks for
    std::uint32_t cursor = 0;
  };
  using Groups = std::vector<Group>;  // by priority
  Groups groups_of(model::Family family) const;
  std::uint32_t candidate(Group& group, const Breaker& breaker, Random& random,
                          std::uint64_t now_ms) const;
  const Endpoint* last_resort(model::Family family, const Breaker& breaker, Random& random,
                              std::uint64_t now_ms);
  std::uint64_t load_of(std::uint32_t endpoint, const Breaker& breaker, std::uint64_t now_ms) const;

  ClusterPtr config_;
  Groups v4_, v6_;
};

}  // namespace weft::net
