// What tests of the breaker stand on: a service "web" at 10.96.0.1 whose endpoints are addresses of
// the loopback, and real connects to it.
#pragma once

#include <gtest/gtest.h>

#include "agent/kernel/breaker.h"
#include "tests/bpf/caller.h"

namespace weft::tests {

inline const std::string kService = "10.96.0.1";

class Breaker : public testing::Test {
 protected:
  void SetUp() override {
    node_.start();
    caller_.emplace(node_);
  }
  void TearDown() override { caller_.reset(); }

  // Outlier detection with one failure enough, so that each test says what differs.
  static model::Service service(const std::vector<std::string>& endpoints) {
    auto made = make_service("web", {kService}, endpoints);
    made.traffic.outlier.emplace();
    made.traffic.outlier->consecutive_failures = 1;
    made.traffic.outlier->base_ejection = std::chrono::seconds(60);
    return made;
  }
  void apply(const model::Service& made) { node_.apply(make_mesh({made})); }

  std::uint32_t id(const std::string& address) {
    const auto* placed = node_.placed().services.find({"default", "web"});
    for (const auto& endpoint : (*placed)->ports[0].endpoints)
      if (endpoint.address.to_text() == address) return endpoint.id;
    ADD_FAILURE() << address << " is no endpoint";
    return 0;
  }
  weft_endpoint_state& state(const std::string& address) {
    return node_.maps().endpoint_states.at(id(address));
  }
  weft_service_state& total() { return node_.maps().service_states.at(node_.index_of("web")); }
  unsigned breaker(const std::string& address) {
    return weft_breaker_state(kernel::load(state(address).breaker));
  }
  unsigned reason(const std::string& address) {
    return weft_breaker_reason(kernel::load(state(address).breaker));
  }
  // Whoever waits for an ejection to end waits for the clock: it is moved instead.
  void end_ejection(const std::string& address) {
    const auto word = kernel::load(state(address).breaker);
    kernel::store(state(address).breaker,
                  weft_breaker_make(weft_breaker_state(word), weft_breaker_reason(word),
                                    weft_breaker_counts(word), weft_breaker_ejections(word),
                                    kernel::now_ms()));
  }
  void expect_nothing_in_flight() {
    for (auto& endpoint : node_.maps().endpoint_states.values()) EXPECT_EQ(endpoint.active, 0u);
    for (auto& each : node_.maps().service_states.values()) EXPECT_EQ(each.active, 0u);
  }

  KernelNode node_;
  std::optional<Caller> caller_;
};

}  // namespace weft::tests
