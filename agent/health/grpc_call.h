// The call grpc.health.v1.Health/Check over HTTP/2, without a socket: bytes in, bytes out.
//
// nghttp2 does HTTP/2 and HPACK; the two messages are one field each and are written by hand,
// which is less than a protobuf library and its generated code would weigh
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md, .../PROTOCOL-HTTP2.md).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "agent/health/verdict.h"

namespace weft::health {

class GrpcCall {
 public:
  // `service` empty: of the whole server.
  GrpcCall(const std::string& authority, const std::string& service);
  ~GrpcCall();

  // What to send now; empty: nothing before more is received.
  std::string to_send();
  void receive(std::string_view bytes);
  bool done() const;
  // Of what has come so far: a connection that ended early is a failure with a reason too.
  Result result() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weft::health
