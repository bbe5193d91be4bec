// A non-blocking stream socket in a loop, with what the kernel did not take yet; or, as a tunnel,
// tied to another.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "mesh/base/fd.h"
#include "userspace_proxy/net/loop.h"

namespace weft::net {

// Above it the other side is not read from: what one slow peer may make us hold.
inline constexpr std::size_t kMaxBacklog = 64 * 1024;

class Socket : public Loop::Watcher {
 public:
  ~Socket() override;

  int fd() const { return fd_.get(); }
  bool is_open() const { return static_cast<bool>(fd_); }
  std::size_t backlog() const { return out_.size() - out_at_; }

 protected:
  explicit Socket(Loop& loop) : loop_(loop) {}

  // From here on it is watched, for reading.
  bool open(base::Fd fd, bool writable_too = false);
  void close();

  // Sends what the kernel takes and keeps the rest. False: the connection is broken, errno says
  // how.
  bool send(std::span<const std::string_view> pieces);
  bool send(std::string_view piece) { return send({&piece, 1}); }
  // Of the backlog; true once it is empty.
  enum class Flushed { kAll, kSome, kBroken };
  Flushed flush();

  ssize_t receive(char* into, std::size_t most);

  void want(bool read, bool write);
  void want_read(bool read) { want(read, wants_write_); }
  void want_write(bool write) { want(wants_read_, write); }
  bool wants_read() const { return wants_read_; }
  // Nothing of it is told until want...() changes what is wanted: an error cannot be masked.
  void look_away();

  void on_ready(std::uint32_t events) final;
  virtual void on_readable() = 0;  // or its end, or its error: a read tells
  virtual void on_writable() = 0;
  virtual void on_broken() = 0;  // error or hang-up while it was not read from

  Loop& loop_;

 private:
  std::uint32_t interest() const;

  base::Fd fd_;
  std::string out_;
  std::size_t out_at_ = 0;
  bool wants_read_ = false, wants_write_ = false, away_ = false;
};

}  // namespace weft::net
