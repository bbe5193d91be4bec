#include "userspace_proxy/net/waiting_list.h"

#include <gtest/gtest.h>

#include <optional>

namespace weft::net {
namespace {

TEST(WaitingList, TheOneThatWaitsLongestIsTheOldest) {
  WaitingList list;
  EXPECT_EQ(list.oldest(), nullptr);
  WaitingLink a, b, c;
  list.join(a, 1);
  list.join(b, 2);
  list.join(c, 3);
  EXPECT_EQ(list.oldest(), &a);
  list.join(a, 4);  // it had a request
  EXPECT_EQ(list.oldest(), &b);
  EXPECT_EQ(a.since_ms(), 4u);
  b.leave();
  EXPECT_FALSE(b.waits());
  EXPECT_EQ(list.oldest(), &c);
}

TEST(WaitingList, WhatIsDestroyedLeaves) {
  WaitingList list;
  WaitingLink a;
  std::optional<WaitingLink> b(std::in_place);
  list.join(*b, 1);
  list.join(a, 2);
  b.reset();
  EXPECT_EQ(list.oldest(), &a);
  a.leave();
  a.leave();
  EXPECT_EQ(list.oldest(), nullptr);
}

TEST(WaitingList, OneMayMoveToAnotherList) {
  WaitingList silent, served;
  WaitingLink a;
  silent.join(a, 1);
  served.join(a, 2);
  EXPECT_EQ(silent.oldest(), nullptr);
  EXPECT_EQ(served.oldest(), &a);
}

}  // namespace
}  // namespace weft::net
