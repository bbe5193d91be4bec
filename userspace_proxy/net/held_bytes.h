// Bytes that came before they could be worked on. Taking from the front moves nothing: behind one
// read there may be a thousand requests, and each is taken alone.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace weft::net {

class HeldBytes {
 public:
  std::string_view view() const { return std::string_view(text_).substr(at_); }
  std::size_t size() const { return text_.size() - at_; }
  bool empty() const { return size() == 0; }

  // What was taken makes room before memory does. A byte is moved only when at least as many were
  // taken since the last move, so all moves together cost no more than all bytes that came.
  void append(std::string_view more) {
    if (at_ && at_ >= size()) {
      text_.erase(0, at_);
      at_ = 0;
    }
    text_.append(more);
  }

  void take(std::size_t count) {
    at_ += count;
    if (empty()) clear();
  }

  // Gives the memory back: a connection that waits for its next request has none.
  void clear() {
    at_ = 0;
    std::string().swap(text_);
  }

 private:
  std::string text_;
  std::size_t at_ = 0;  // up to here it was taken
};

}  // namespace weft::net
