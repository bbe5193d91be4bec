#include "userspace_proxy/http/path.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>

namespace weft::http {
namespace {

std::string normalized(std::string_view path) {
  std::string out = "untouched";
  switch (normalize_path(path, out)) {
    case PathVerdict::kUnchanged:
      return std::string(path);
    case PathVerdict::kChanged:
      EXPECT_NE(out, path);
      return out;
    case PathVerdict::kRefused:
      break;
  }
  return "refused";
}

TEST(Path, LeavesOrdinaryPathsAlone) {
  for (const char* path : {"/", "/a", "/a/b.c/", "/.well-known/x", "/a..b/...", "/a:b@c;d=1,2/~e",
                           "/%20%25%3F", "*", "/a[0]|^", "/..a/.b"})
    EXPECT_EQ(normalized(path), path);
}

TEST(Path, DecodesUnreservedBytesOnly) {
  EXPECT_EQ(normalized("/%61%2D%5f%7e%2E"), "/a-_~.");
  EXPECT_EQ(normalized("/%3a%2b%c3%a4%0a"), "/%3A%2B%C3%A4%0A");
}

TEST(Path, DecodesNothingTwice) {
  EXPECT_EQ(normalized("/%2561"), "/%2561");
  EXPECT_EQ(normalized("/%252e%252e/a"), "/%252e%252e/a");
  EXPECT_EQ(normalized("/a/%25%32%66"), "/a/%252f");
}

TEST(Path, ResolvesDotSegments) {  // Envoy CVE-2019-9901
  EXPECT_EQ(normalized("/a/./b/."), "/a/b/");
  EXPECT_EQ(normalized("/a/../b"), "/b");
  EXPECT_EQ(normalized("/public/../admin"), "/admin");
  EXPECT_EQ(normalized("/public/%2e%2E/admin"), "/admin");
  EXPECT_EQ(normalized("/public/.%2e/admin"), "/admin");
  EXPECT_EQ(normalized("/a/b/.."), "/a/");
  EXPECT_EQ(normalized("/."), "/");
  EXPECT_EQ(normalized("/a/.."), "/");
}

TEST(Path, NeverGoesAboveTheRoot) {
  EXPECT_EQ(normalized("/.."), "/");
  EXPECT_EQ(normalized("/../../a"), "/a");
  EXPECT_EQ(normalized("/a/../../b/.."), "/");
}

TEST(Path, MergesSlashes) {
  EXPECT_EQ(normalized("//a///b//"), "/a/b/");
  EXPECT_EQ(normalized("//"), "/");
  EXPECT_EQ(normalized("/a//../b"), "/a/b") << "dots first, as Istio does";
  EXPECT_EQ(normalized("//../a"), "/a");
}

TEST(Path, RefusesEncodedSeparatorsAndNul) {
  for (const char* path : {"/a%2fb", "/a%2Fb", "/a%5cb", "/a%5C", "/%00", "/..%2fadmin"})
    EXPECT_EQ(normalized(path), "refused") << path;
}

TEST(Path, RefusesBrokenEncodings) {
  for (const char* path : {"/%", "/%4", "/%4g", "/%g4", "/%%34%31", "/%u0041", "/a%2"})
    EXPECT_EQ(normalized(path), "refused") << path;
}

TEST(Path, RefusesBytesThatAPathMayNotHold) {  // '#': Envoy CVE-2021-32779
  for (const char* path : {"/a\\b", "/a#b", "/a b", "/a\"", "/<a>", "/a`", "/{a}", "/a\tb", "/\x7f",
                           "/\xc3\xa4", "/a?b"})
    EXPECT_EQ(normalized(path), "refused") << path;
}

TEST(Path, RefusesWhatDoesNotBeginWithASlash) {
  for (const char* path : {"", "a", "**", "http://a/", "%2fa"})
    EXPECT_EQ(normalized(path), "refused") << path;
}

TEST(Path, RefusesDotSegmentsWithParameters) {  // Envoy CVE-2026-73511
  for (const char* path : {"/public/..;/admin", "/a/.;x=1/b", "/a/%2e%2e;y", "/..;"})
    EXPECT_EQ(normalized(path), "refused") << path;
  EXPECT_EQ(normalized("/a;x=1/b;..;"), "/a;x=1/b;..;");
}

TEST(Path, RandomPathsComeToRest) {
  std::mt19937 random(1);
  constexpr std::string_view kParts[] = {"/", "/",   ".",   "..", "%2e", "%2E",
                                         "a", "%41", "%25", ";",  "%3a"};
  for (int i = 0; i < 20000; ++i) {
    std::string path = "/";
    for (auto parts = random() % 12; parts > 0; --parts)
      path += kParts[random() % std::size(kParts)];
    const auto once = normalized(path);
    if (once == "refused") continue;
    ASSERT_EQ(normalized(once), once) << path;
    ASSERT_EQ(once.find("//"), std::string::npos) << path;
    ASSERT_EQ((once + "/").find("/../"), std::string::npos) << path;
    ASSERT_EQ((once + "/").find("/./"), std::string::npos) << path;
  }
}

}  // namespace
}  // namespace weft::http
