// One line a request, in Envoy's default format or as JSON; a sample of them, since at full rate a
// log costs more than the proxy. Written by each worker in blocks; what a client sent is escaped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "mesh/base/fd.h"
#include "userspace_proxy/net/flags.h"

namespace weft::net {

struct LogEntry {
  std::string method, path, authority, user_agent, request_id, upstream, route;
  std::uint8_t minor = 1;
};

struct LogOutcome {
  std::uint16_t status = 0;
  Flags flags = 0;
  std::uint64_t bytes_in = 0, bytes_out = 0;
  double duration_ms = 0;
  std::uint32_t attempts = 1;
};

class AccessLog {
 public:
  enum class Format { kText, kJson };
  // `every`: one request in so many; 0: none. `fd` is not owned.
  AccessLog(int fd, Format format, std::uint32_t every) : fd_(fd), format_(format), every_(every) {}
  ~AccessLog() { flush(); }

  bool wants_next() { return every_ && ++count_ % every_ == 0; }
  void write(const LogEntry& entry, const LogOutcome& outcome);
  void flush();

 private:
  int fd_;
  Format format_;
  std::uint32_t every_;
  std::uint32_t count_ = 0;
  std::string lines_;
};

}  // namespace weft::net
