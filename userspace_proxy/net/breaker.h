// The breaker table, from the proxy's side: one word an endpoint, changed by compare-and-exchange,
// as the kernel's programs change it (bpf/lib/breaker.bpf.h says what the transitions are; that
// this follows it tests/bpf/transitions_test.cc shows, case by case).
#pragma once

#include <cstdint>
#include <functional>

#include "userspace_proxy/net/config.h"

namespace weft::net {

enum class Admission : std::uint8_t {
  kYes,
  kProbe,  // it is the one request that a half-open breaker lets through: settle() or charge()
           // follows
  kEjected,
  kLater,  // warming up: another one, if there is any
};

// Told of every transition that this process made; null: nobody asks.
using Tell =
    std::function<void(const Shares&, std::uint64_t from, std::uint64_t to, std::uint32_t reason)>;

class Breaker {
 public:
  // `tell` is called on the thread that makes the transition.
  explicit Breaker(Tell tell) : tell_(std::move(tell)) {}

  // `now_ms` is CLOCK_MONOTONIC; `random` of the whole range. `last_resort`: nobody else admits the
  // request; where more endpoints are out than may be, those that are out serve then.
  Admission admit(Shares& shares, std::uint64_t now_ms, std::uint32_t random,
                  bool last_resort = false) const;
  // A connect or a connection failed.
  void charge(Shares& shares, std::uint32_t reason, bool probe, std::uint64_t now_ms) const;
  // A response came: what it says of the endpoint. A 5xx streak opens the breaker.
  void on_status(Shares& shares, std::uint16_t status, bool probe, std::uint64_t now_ms) const;
  // A request that it has whole was not answered in time.
  void on_timeout(Shares& shares, bool probe, std::uint64_t now_ms) const;
  // A probe ended without an answer either way: the next one is the probe.
  void lose(Shares& shares, std::uint64_t now_ms) const;
  bool is_open(const Shares& shares, std::uint64_t now_ms) const;

 private:
  void count_status(Shares& shares, std::uint16_t status, bool probe, std::uint64_t now_ms) const;
  bool turn(Shares& shares, std::uint64_t from, std::uint64_t to, std::uint32_t reason) const;
  void close(Shares& shares, std::uint64_t word, std::uint32_t reason, std::uint64_t now_ms) const;
  void eject(Shares& shares, std::uint64_t word, std::uint32_t reason, std::uint64_t now_ms) const;
  void reopen(Shares& shares, std::uint64_t word, std::uint32_t reason, std::uint64_t now_ms) const;

  Tell tell_;
};

}  // namespace weft::net
