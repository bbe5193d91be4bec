#include "mesh/model/notice.h"

#include <gtest/gtest.h>

namespace weft::model {
namespace {

const auto kFile = std::make_shared<const std::string>("mesh/web.yaml");

TEST(Notice, NamesFileLineSeverityObjectAndReason) {
  const Notice notice{
      Severity::kRejected, {kFile, 12}, "Service shop/web", "port 70000 is not in 1..65535"};
  EXPECT_EQ(notice.to_text(),
            "mesh/web.yaml:12: rejected: Service shop/web: port 70000 is not in 1..65535");
}

TEST(Notice, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ((Notice{Severity::kWarning, {kFile, 0}, "", "odd"}).to_text(),
            "mesh/web.yaml: warning: odd");
  EXPECT_EQ((Notice{Severity::kInfo, {nullptr, 7}, "", "odd"}).to_text(), "info: odd");
}

TEST(Notice, SeveritiesHaveTheNamesThatStatusShows) {
  EXPECT_STREQ(to_text(Severity::kInfo), "info");
  EXPECT_STREQ(to_text(Severity::kWarning), "warning");
  EXPECT_STREQ(to_text(Severity::kNotEnforced), "not_enforced");
  EXPECT_STREQ(to_text(Severity::kRejected), "rejected");
}

TEST(Notice, SeveritiesAreOrderedFromMildToSevere) {
  EXPECT_LT(Severity::kInfo, Severity::kWarning);
  EXPECT_LT(Severity::kWarning, Severity::kNotEnforced);
  EXPECT_LT(Severity::kNotEnforced, Severity::kRejected);
}

TEST(Notice, OriginsAreComparedByWhatTheySayNotByPointer) {
  const Origin here{kFile, 3}, same{std::make_shared<const std::string>("mesh/web.yaml"), 3},
      next{kFile, 4};
  EXPECT_EQ(here, same);
  EXPECT_FALSE(here == next);
}

}  // namespace
}  // namespace weft::model
