// Connections in the order in which they began to wait: who goes first when there is no more room.
// A link is a part of what waits, so nothing is allocated on a request's way.
#pragma once

#include <cstdint>

namespace weft::net {

class WaitingLink {
 public:
  WaitingLink() = default;
  ~WaitingLink() { leave(); }
  WaitingLink(const WaitingLink&) = delete;
  WaitingLink& operator=(const WaitingLink&) = delete;

  bool waits() const { return next_ != nullptr; }
  std::uint64_t since_ms() const { return since_ms_; }
  void leave() {
    if (!next_) return;
    next_->before_ = before_;
    before_->next_ = next_;
    next_ = before_ = nullptr;
  }

 private:
  friend class WaitingList;
  WaitingLink* next_ = nullptr;
  WaitingLink* before_ = nullptr;
  std::uint64_t since_ms_ = 0;
};

class WaitingList {
 public:
  WaitingList() { ring_.next_ = ring_.before_ = &ring_; }

  // At its end; from wherever it was.
  void join(WaitingLink& link, std::uint64_t now_ms) {
    link.leave();
    link.since_ms_ = now_ms;
    link.next_ = &ring_;
    link.before_ = ring_.before_;
    link.before_->next_ = ring_.before_ = &link;
  }
  WaitingLink* oldest() { return ring_.next_ == &ring_ ? nullptr : ring_.next_; }

 private:
  WaitingLink ring_;  // first and last of all
};

}  // namespace weft::net
