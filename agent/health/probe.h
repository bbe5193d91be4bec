// One check of one endpoint: TCP connect, HTTP GET, or grpc.health.v1. Asks once and says what it
// found in words for people; what follows from that is verdict.h's business.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>

#include "agent/health/verdict.h"
#include "mesh/model/address.h"
#include "mesh/model/traffic_policy.h"

namespace weft::health {

struct Question {
  model::Address address;
  std::uint16_t port = 0;  // the endpoint's; check.port goes before it
  model::HealthCheck check;
};

// `done` is called on the io_context's thread exactly once, within check.timeout or a little later;
// not at all where the io_context ends first. Throws nothing.
void probe(boost::asio::io_context& io, Question question, std::function<void(Result)> done);

}  // namespace weft::health
