#include "agent/app/hold.h"

#include <gtest/gtest.h>

namespace weft::app {
namespace {

using namespace std::chrono_literals;
using Change = Hold::Change;

reconcile::Result held(std::size_t before, std::size_t after) {
  reconcile::Result result;
  result.held_back = true;
  result.endpoints_before = before;
  result.endpoints_after = after;
  return result;
}

TEST(Hold, SaysHowManyWouldGoAndForHowLongTheyStay) {
  Hold hold(30s, false);
  EXPECT_EQ(hold.note({}), Change::kNone);
  EXPECT_EQ(hold.text(), "");
  EXPECT_EQ(hold.note(held(10, 3)), Change::kBegun);
  EXPECT_TRUE(hold.text().starts_with("7 of 10 endpoints would go at once")) << hold.text();
  EXPECT_NE(hold.text().find("held back for 30 s."), std::string::npos) << hold.text();
  Hold brief(1500ms, false);
  brief.note(held(10, 3));
  EXPECT_NE(brief.text().find("held back for 1500 ms."), std::string::npos) << brief.text();
}

TEST(Hold, TheClockIsNotSetAnewByWhatComesMeanwhile) {
  Hold hold(30s, false);
  hold.note(held(10, 3));
  const auto text = hold.text();
  EXPECT_EQ(hold.note(held(10, 2)), Change::kNone);
  EXPECT_EQ(hold.text(), text);
  EXPECT_EQ(hold.note({}), Change::kEnded) << "what was held back is there again";
  EXPECT_EQ(hold.text(), "");
  EXPECT_EQ(hold.note(held(10, 2)), Change::kBegun);
}

TEST(Hold, AnApplyMayRemoveOnceWhatTimeOrSomebodyAllowed) {
  Hold hold(30s, false);
  hold.note(held(10, 3));
  EXPECT_FALSE(hold.allows());
  hold.time_is_over();
  EXPECT_TRUE(hold.allows());
  EXPECT_FALSE(hold.allows_api_server()) << "time does not take the way back away";
  hold.note({});
  EXPECT_FALSE(hold.allows());
  hold.confirm();
  EXPECT_TRUE(hold.allows() && hold.allows_api_server());
  hold.note({});
  EXPECT_FALSE(hold.allows() || hold.allows_api_server());
}

TEST(Hold, TheApiServersLastEndpointIsToldBesideIt) {
  Hold hold(30s, false);
  reconcile::Result result;
  result.kept_api_server = true;
  EXPECT_EQ(hold.note(result), Change::kNone) << "it does not go by time";
  EXPECT_TRUE(hold.text().starts_with("default/kubernetes would lose")) << hold.text();
  result = held(10, 3);
  result.kept_api_server = true;
  EXPECT_EQ(hold.note(result), Change::kBegun);
  EXPECT_TRUE(hold.text().starts_with("7 of 10")) << hold.text();
  EXPECT_NE(hold.text().find("; default/kubernetes"), std::string::npos) << hold.text();
}

TEST(Hold, NothingIsHeldBackWhereThatWasAskedFor) {
  Hold hold(30s, true);
  hold.note({});
  EXPECT_TRUE(hold.allows() && hold.allows_api_server());
}

}  // namespace
}  // namespace weft::app
