// What the child says, and what is kept of it: text in, text out.
#include "agent/bypass/report.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace weft::bypass {
namespace {

TEST(Report, OneThatPassedComesBackAsItWas) {
  const Report report{{{"load", ""}, {"bytes", ""}}, {"splice(2): \"x\""}, 0.5};
  const auto result = result_of(to_json(report));
  ASSERT_TRUE(result);
  EXPECT_TRUE(result->ok);
  EXPECT_EQ(result->reason, "");
  EXPECT_EQ(result->differences, report.differences);
  EXPECT_EQ(result->seconds, 0.5);
}

TEST(Report, TheFirstCheckThatFailedIsTheReason) {
  const Report report{{{"load", ""}, {"bytes", "wrong\n\xff"}, {"drain", "lost"}}, {}, 0};
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(to_json(report).find('\n'), std::string::npos);
  const auto result = result_of(to_json(report));
  ASSERT_TRUE(result);
  EXPECT_FALSE(result->ok);
  EXPECT_EQ(result->reason, "bytes: wrong\n\xef\xbf\xbd");
}

TEST(Report, NothingCheckedIsNotPassed) {
  EXPECT_FALSE(Report{}.ok());
  EXPECT_FALSE(result_of(to_json(Report{})));
}

TEST(Report, WhatIsNotAReportIsNone) {
  for (const char* text : {"", "{", "[]", "{\"ok\":true}", "weftd: no such option",
                           R"({"ok":true,"checks":[],"differences":[],"seconds":1})",
                           R"({"ok":1,"checks":[{"ok":true}],"differences":[],"seconds":1})"})
    EXPECT_FALSE(result_of(text)) << text;
}

TEST(Report, OkBesideACheckThatFailedIsNotOk) {
  for (const char* check : {R"({"name":"a","ok":false,"reason":"b"})", R"({"name":"a"})", "1"}) {
    const auto result = result_of(
        std::string(R"({"ok":true,"differences":[],"seconds":1,"checks":[)") + check + "]}");
    ASSERT_TRUE(result) << check;
    EXPECT_FALSE(result->ok) << check;
    EXPECT_NE(result->reason, "") << check;
  }
}

class KeptTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char dir[] = "/tmp/weft-kept-XXXXXX";
    ASSERT_NE(mkdtemp(dir), nullptr);
    dir_ = dir;
    file_ = dir_ + "/bypass_self_test.json";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string text() const {
    std::stringstream all;
    all << std::ifstream(file_).rdbuf();
    return all.str();
  }
  // The file with another value for a key.
  void change(const std::string& key) const {
    auto all = text();
    const auto at = all.find("\"" + key + "\": \"");
    ASSERT_NE(at, std::string::npos) << all;
    all.insert(at + key.size() + 5, "another ");
    std::ofstream(file_) << all;
  }

  std::string dir_, file_;
  const SelfTest passed_{.ok = true, .reason = "", .differences = {"a: b"}, .seconds = 0.25};
};

TEST_F(KeptTest, ATestThatPassedIsRemembered) {
  EXPECT_FALSE(read_self_test(file_));
  write_self_test(file_, passed_);
  const auto kept = read_self_test(file_);
  ASSERT_TRUE(kept);
  EXPECT_TRUE(kept->ok);
  EXPECT_EQ(kept->differences, passed_.differences);
  EXPECT_EQ(kept->seconds, 0.25);
}

TEST_F(KeptTest, OneThatFailedIsNotAndTakesTheOldOneWithIt) {
  write_self_test(file_, passed_);
  write_self_test(file_, {.ok = false, .reason = "bytes: wrong", .differences = {}, .seconds = 1});
  EXPECT_FALSE(read_self_test(file_));
  EXPECT_FALSE(std::filesystem::exists(file_));
}

TEST_F(KeptTest, AnotherBootKernelOrBuildKnowsNothing) {
  for (const char* key : {"boot", "kernel", "build"}) {
    write_self_test(file_, passed_);
    change(key);
    EXPECT_FALSE(read_self_test(file_)) << key;
  }
}

TEST_F(KeptTest, AFileThatIsCutShortKnowsNothing) {
  write_self_test(file_, passed_);
  const auto all = text();
  for (std::size_t size = 0; size + 2 < all.size(); ++size) {
    std::ofstream(file_, std::ios::trunc) << all.substr(0, size);
    EXPECT_FALSE(read_self_test(file_)) << size;
  }
}

TEST_F(KeptTest, ADirectoryThatIsNotThereHarmsNobody) {
  write_self_test(dir_ + "/no/file", passed_);
  EXPECT_FALSE(read_self_test(dir_ + "/no/file"));
}

}  // namespace
}  // namespace weft::bypass
