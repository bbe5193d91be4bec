// Messages on a stream: a length (32 bits, little endian), then so many bytes (docs/proxy.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

namespace google::protobuf {
class MessageLite;
}

namespace weft::wire {

inline constexpr std::size_t kLongestMessage = 64 << 20;

// Appends the message to what is to be sent. Fails, and appends nothing, where it is too long.
absl::Status append_frame(const google::protobuf::MessageLite& message, std::string& out);

// Bytes in pieces of any size, whole messages out. Holds no more than it was given: a length that
// is claimed costs nothing before the bytes are there.
class FrameReader {
 public:
  void append(std::string_view bytes) { buffer_.append(bytes); }

  // The next whole message, valid until the next call of either; nothing while bytes are missing.
  // An error (a length beyond kLongestMessage) is for good: the stream cannot be understood again.
  absl::StatusOr<std::optional<std::string_view>> next();

  // How many bytes are missing to complete the length or the message that comes next. Who reads no
  // more than that never reads into the message behind it, so that descriptors which come with a
  // message's first byte are known to be that message's.
  std::size_t missing() const;

 private:
  // Of the message at the front; nothing while its four bytes are not there.
  std::optional<std::size_t> length() const;
  std::string_view rest() const { return std::string_view(buffer_).substr(begin_); }

  std::string buffer_;
  std::size_t begin_ = 0;  // what is before was handed out
};

}  // namespace weft::wire
