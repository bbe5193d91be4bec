#include "mesh/wire/frame.h"

#include <absl/strings/str_cat.h>
#include <google/protobuf/message_lite.h>

namespace weft::wire {
namespace {

constexpr std::size_t kHead = 4;

// A buffer that once held a whole mesh is not kept for heartbeats.
constexpr std::size_t kKept = 64 << 10;

absl::Status too_long(std::size_t length) {
  return absl::InvalidArgumentError(
      absl::StrCat("a message of ", length, " bytes; at most ", kLongestMessage));
}

}  // namespace

absl::Status append_frame(const google::protobuf::MessageLite& message, std::string& out) {
  const std::size_t length = message.ByteSizeLong();
  if (length > kLongestMessage) return too_long(length);
  const std::size_t before = out.size();
  for (std::size_t i = 0; i < kHead; ++i)
    out.push_back(static_cast<char>(length >> (8 * i) & 0xff));
  if (message.AppendPartialToString(&out)) return absl::OkStatus();
  out.resize(before);
  return absl::InternalError("a message could not be written");
}

std::optional<std::size_t> FrameReader::length() const {
  const auto bytes = rest();
  if (bytes.size() < kHead) return std::nullopt;
  std::size_t length = 0;
  for (std::size_t i = 0; i < kHead; ++i)
    length |= static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  return length;
}

absl::StatusOr<std::optional<std::string_view>> FrameReader::next() {
  if (begin_ == buffer_.size()) {
    if (buffer_.capacity() > kKept) std::string().swap(buffer_);
    buffer_.clear();
    begin_ = 0;
  }
  const auto whole = length();
  if (whole && *whole > kLongestMessage) return too_long(*whole);
  if (!whole || rest().size() - kHead < *whole) {
    // Half a message: what is in front of it goes, once for all that was read together.
    buffer_.erase(0, begin_);
    begin_ = 0;
    return std::optional<std::string_view>();
  }
  const auto message = rest().substr(kHead, *whole);
  begin_ += kHead + *whole;
  return std::optional(message);
}

std::size_t FrameReader::missing() const {
  const auto whole = length();
  const std::size_t needed = whole ? kHead + *whole : kHead;
  return needed > rest().size() ? needed - rest().size() : 0;
}

}  // namespace weft::wire
