#include "agent/observe/series.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include "agent/compile/map_state.h"

namespace weft::observe {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

// Arrays as the kernel would hold them.
struct Arrays {
  std::vector<std::uint64_t> services = std::vector<std::uint64_t>(8);
  std::vector<weft_service_state> service_states = std::vector<weft_service_state>(8);
  std::vector<weft_endpoint> endpoints = std::vector<weft_endpoint>(16);
  std::vector<weft_endpoint_state> endpoint_states = std::vector<weft_endpoint_state>(16);

  void endpoint(std::uint32_t id, std::uint32_t service, const char* address,
                std::uint32_t flags = WEFT_ENDPOINT_READY) {
    endpoints[id].addr = compile::to_abi(*model::Address::parse(address));
    endpoints[id].word = weft_endpoint_make(service, htons(8080), WEFT_ENDPOINT_USED | flags, 0);
  }
  ArraysView view() const { return {services, service_states, endpoints, endpoint_states}; }
};

struct SeriesTest : testing::Test {
  Arrays arrays;
  Series series{SeriesOptions{}};
  Clock::time_point now = Clock::time_point(std::chrono::hours(1));

  SeriesTest() {
    series.set_names({{1, "shop", "web", 80, false},
                      {2, "shop", "web", 80, false},
                      {3, "shop", "db", 5432, false}});
    arrays.endpoint(1, 1, "10.0.0.1");
    arrays.endpoint(2, 2, "fd00::1");
    arrays.endpoint(3, 3, "10.0.0.3", WEFT_ENDPOINT_DRAINING);
    arrays.endpoint(4, 3, "10.0.0.4", 0);
  }
  Readings collect(Series& from) {
    Readings readings;
    from.collect(arrays.view(), now, readings);
    return readings;
  }
  Readings collect() { return collect(series); }
};

TEST_F(SeriesTest, SaysNothingOfWhatNeverMoved) {
  const auto readings = collect();
  EXPECT_TRUE(readings.services.empty());
  EXPECT_TRUE(readings.endpoints.empty());
}

TEST_F(SeriesTest, CountsEndpointsByState) {
  const auto readings = collect();
  EXPECT_EQ(readings.endpoint_counts.ready, 2u);
  EXPECT_EQ(readings.endpoint_counts.draining, 1u);
  EXPECT_EQ(readings.endpoint_counts.not_ready, 1u);
}

TEST_F(SeriesTest, AddsTheTwoFamiliesOfAService) {
  arrays.service_states[1].opened = 3;
  arrays.service_states[2].opened = 4;
  arrays.service_states[2].refused_family = 1;
  const auto readings = collect();
  ASSERT_EQ(readings.services.size(), 1u);
  EXPECT_EQ(readings.services[0], (ServiceReading{"shop", "web", 80, false, 7, 0, 0, 1, 0}));
}

TEST_F(SeriesTest, NamesEndpointsOfBothFamilies) {
  arrays.endpoint_states[1].opened = 3;
  arrays.endpoint_states[2].failed = 1;
  arrays.endpoint_states[2].rtt_us = 20;
  const auto readings = collect();
  ASSERT_EQ(readings.endpoints.size(), 2u);
  EXPECT_EQ(readings.endpoints[0],
            (EndpointReading{"shop", "web", 80, false, "10.0.0.1:8080", 0, 3, 0, 0}));
  EXPECT_EQ(readings.endpoints[1],
            (EndpointReading{"shop", "web", 80, false, "[fd00::1]:8080", 0, 0, 1, 20}));
}

TEST_F(SeriesTest, IdleSeriesExpireAndComeBackWhenTheyMove) {
  arrays.service_states[3].opened = 1;
  arrays.endpoint_states[3].opened = 1;
  collect();
  now += minutes(10) - seconds(1);
  EXPECT_EQ(collect().endpoints.size(), 1u);
  now += seconds(1);
  EXPECT_TRUE(collect().endpoints.empty());
  EXPECT_TRUE(collect().services.empty());
  arrays.service_states[3].opened = 2;
  arrays.endpoint_states[3].opened = 2;
  const auto readings = collect();
  ASSERT_EQ(readings.endpoints.size(), 1u);
  EXPECT_EQ(readings.endpoints[0].opened, 2u);
  ASSERT_EQ(readings.services.size(), 1u);
}

TEST_F(SeriesTest, AnOpenConnectionKeepsItsSeries) {
  arrays.endpoint_states[3].opened = 1;
  arrays.endpoint_states[3].active = 1;
  collect();
  now += minutes(60);
  EXPECT_EQ(collect().endpoints.size(), 1u);
  arrays.endpoint_states[3].active = 0;
  now += minutes(9);
  EXPECT_EQ(collect().endpoints.size(), 1u);  // idle since it was last seen open
  now += minutes(60);
  EXPECT_TRUE(collect().endpoints.empty());
}

TEST_F(SeriesTest, AnotherIncarnationOfAnIdIsAnotherSeries) {
  arrays.endpoint_states[3].opened = 1;
  collect();
  now += minutes(20);
  EXPECT_TRUE(collect().endpoints.empty());
  arrays.endpoint_states[3].incarnation = 1;
  EXPECT_EQ(collect().endpoints.size(), 1u);
}

TEST_F(SeriesTest, TheCapIsKeptAndVisible) {
  arrays.endpoint_states[1].opened = 1;  // 2 series: active, opened
  arrays.endpoint_states[2].opened = 1;
  arrays.endpoint_states[3].opened = 1;
  arrays.service_states[1].opened = 1;
  arrays.service_states[3].opened = 1;
  arrays.service_states[3].failed = 1;
  Series capped(SeriesOptions{.max_endpoint_series = 4, .max_service_series = 2});
  capped.set_names({{1, "shop", "web", 80, false},
                    {2, "shop", "web", 80, false},
                    {3, "shop", "db", 5432, false}});
  auto readings = collect(capped);
  EXPECT_EQ(readings.endpoints.size(), 2u);
  EXPECT_EQ(readings.endpoints_dropped, 2u);
  EXPECT_EQ(readings.services.size(), 1u);
  EXPECT_EQ(readings.services_dropped, 1u);
  readings = collect(capped);
  EXPECT_EQ(readings.endpoints_dropped, 4u);
}

TEST_F(SeriesTest, TwoIdsOfOneAddressAreOneSeries) {
  arrays.endpoint(5, 1, "10.0.0.1");
  arrays.endpoint_states[1].opened = 2;
  arrays.endpoint_states[5].opened = 3;
  const auto readings = collect();
  ASSERT_EQ(readings.endpoints.size(), 1u);
  EXPECT_EQ(readings.endpoints[0].opened, 5u);
}

TEST_F(SeriesTest, IndexesWithoutANameAreLeftOut) {
  arrays.service_states[6].opened = 1;
  arrays.endpoint(6, 6, "10.0.0.6");
  arrays.endpoint_states[6].opened = 1;
  EXPECT_TRUE(collect().endpoints.empty());
  EXPECT_TRUE(collect().services.empty());
  series.set_names({{6, "shop", "new", 80, true}});
  const auto readings = collect();
  ASSERT_EQ(readings.services.size(), 1u);
  EXPECT_EQ(readings.services[0].name, "new");
  EXPECT_TRUE(readings.services[0].udp);
}

}  // namespace
}  // namespace weft::observe
