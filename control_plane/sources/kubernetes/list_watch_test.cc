#include "control_plane/sources/kubernetes/list_watch.h"

#include <gtest/gtest.h>

#include <map>

namespace weft::sources::kubernetes {
namespace {

using namespace std::chrono_literals;

std::string object(const std::string& name, const std::string& version,
                   const std::string& more = "") {
  return R"({"metadata":{"name":")" + name + R"(","namespace":"shop","resourceVersion":")" +
         version + R"("})" + more + "}";
}

std::string page(const std::string& items, const std::string& version,
                 const std::string& next = "") {
  return R"({"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":")" + version +
         R"(","continue":")" + next + R"("},"items":[)" + items + "]}";
}

std::string event(const std::string& type, const std::string& value) {
  return R"({"type":")" + type + R"(","object":)" + value + "}\n";
}

const std::string kGone =
    R"({"kind":"Status","metadata":{},"status":"Failure","message":"too old resource version",)"
    R"("reason":"Expired","code":410})";

struct ListWatchTest : testing::Test {
  std::map<std::string, std::string> objects;
  int told = 0;
  ListWatch it{{"", "v1", "services", "Service", ""},
               {[this](const std::string& name, std::string_view json) {
                  objects[name] = json;
                  ++told;
                },
                [this](const std::string& name) {
                  objects.erase(name);
                  ++told;
                }},
               1};

  ListWatch::Ending answer(int status, const std::string& body, const std::string& broken = "",
                           std::chrono::milliseconds lasted = 10s) {
    it.begin(status, std::nullopt);
    it.feed(body);
    return it.end(broken, lasted);
  }
  ListWatch::Ending ask(int status, const std::string& body, const std::string& broken = "",
                        std::chrono::milliseconds lasted = 10s) {
    it.target();
    return answer(status, body, broken, lasted);
  }
  void listed() { ask(200, page(object("a", "1") + "," + object("b", "2"), "5")); }
};

// A custom resource may be installed, taken away and installed again.
TEST_F(ListWatchTest, AnOptionalResourceThatTheClusterLacksIsAnEmptyList) {
  it = ListWatch({"networking.istio.io", "v1", "destinationrules", "DestinationRule", "", true},
                 {[this](const std::string& name, std::string_view json) { objects[name] = json; },
                  [this](const std::string& name) { objects.erase(name); }},
                 1);
  auto ending = ask(404, "404 page not found");
  EXPECT_EQ(ending.error, "");
  EXPECT_GE(ending.delay, 10s) << "it is not asked for all the time";
  EXPECT_TRUE(it.listed());
  EXPECT_FALSE(it.watching());
  listed();
  EXPECT_EQ(objects.size(), 2u);
  EXPECT_TRUE(it.watching());
  ending = ask(404, "404 page not found");
  EXPECT_EQ(ending.error, "");
  EXPECT_EQ(objects.size(), 0u);
  EXPECT_FALSE(it.watching());
}

TEST_F(ListWatchTest, AResourceThatMustBeThereIsMissed) {
  EXPECT_NE(ask(404, "404 page not found").error, "");
  EXPECT_FALSE(it.listed());
}

TEST_F(ListWatchTest, ListsInPagesAndThenWatches) {
  EXPECT_EQ(it.target(), "/api/v1/services?limit=500");
  EXPECT_EQ(answer(200, page(object("a", "1"), "5", "to/ken=")).delay, 0ms);
  EXPECT_FALSE(it.listed());
  EXPECT_EQ(it.target(), "/api/v1/services?limit=500&continue=to%2Fken%3D");
  answer(200, page(object("b", "2"), "5"));
  EXPECT_TRUE(it.listed());
  EXPECT_EQ(objects.size(), 2u);
  EXPECT_TRUE(objects.contains("shop/a"));
  const auto watch = it.target();
  EXPECT_TRUE(watch.starts_with(
      "/api/v1/services?watch=1&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds="))
      << watch;
}

TEST_F(ListWatchTest, GroupsAndSelectorsAreInThePath) {
  ListWatch slices({"discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", "fieldSelector=x"},
                   {}, 1);
  EXPECT_EQ(slices.target(), "/apis/discovery.k8s.io/v1/endpointslices?fieldSelector=x&limit=500");
}

TEST_F(ListWatchTest, MetadataAloneIsAskedForInTheFormThatListsAndWatchesHave) {
  EXPECT_EQ(it.accept(), "application/json");
  it = ListWatch({"", "v1", "pods", "Pod", "", false, true},
                 {[this](const std::string& name, std::string_view json) { objects[name] = json; },
                  [this](const std::string& name) { objects.erase(name); }},
                 1);
  EXPECT_EQ(it.target(), "/api/v1/pods?limit=500");
  EXPECT_EQ(it.accept(), "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
  answer(200, page(object("a", "1"), "5"));
  EXPECT_TRUE(it.target().starts_with("/api/v1/pods?watch=1&"));
  EXPECT_EQ(it.accept(), "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
  EXPECT_TRUE(objects.contains("shop/a"));
}

TEST_F(ListWatchTest, FollowsEventsInAnyPieces) {
  listed();
  it.target();
  it.begin(200, std::nullopt);
  const auto stream = event("ADDED", object("c", "6")) + event("MODIFIED", object("a", "7")) +
                      event("DELETED", object("b", "8")) +
                      event("BOOKMARK", R"({"metadata":{"resourceVersion":"9"}})");
  for (const char c : stream) ASSERT_TRUE(it.feed(std::string_view(&c, 1)));
  EXPECT_EQ(it.events(), 3u);
  EXPECT_TRUE(objects.contains("shop/c"));
  EXPECT_FALSE(objects.contains("shop/b"));
  EXPECT_EQ(it.end("", 400s).delay, 0ms);
  EXPECT_NE(it.target().find("resourceVersion=9&"), std::string::npos);
}

TEST_F(ListWatchTest, AnEventCutInTheMiddleIsAskedForAgain) {
  listed();
  const auto half = event("MODIFIED", object("a", "7")).substr(0, 30);
  const auto ending = ask(200, event("ADDED", object("c", "6")) + half, "connection reset", 1s);
  EXPECT_EQ(ending.error, "") << "streams end";
  EXPECT_GT(ending.delay, 0ms);
  EXPECT_NE(it.target().find("resourceVersion=6&"), std::string::npos);
}

TEST_F(ListWatchTest, GoneInAStreamListsAgainAndTellsDifferencesOnly) {
  listed();
  EXPECT_EQ(ask(200, event("ERROR", kGone)).error, "");
  EXPECT_EQ(it.target(), "/api/v1/services?limit=500");
  told = 0;
  answer(200, page(object("b", "2") + "," + object("c", "11"), "12"));
  EXPECT_EQ(told, 2) << "a is gone, c is new, b is as it was";
  EXPECT_FALSE(objects.contains("shop/a"));
}

TEST_F(ListWatchTest, GoneAsAStatusListsAgain) {
  listed();
  EXPECT_EQ(ask(410, kGone).error, "");
  EXPECT_EQ(it.target(), "/api/v1/services?limit=500");
}

TEST_F(ListWatchTest, NothingIsGoneBeforeTheNewListIsWhole) {
  listed();
  ask(410, kGone);
  ask(200, page(object("c", "11"), "12", "more"));
  EXPECT_EQ(objects.size(), 3u);
  ask(410, kGone);  // the token expired
  EXPECT_EQ(it.target(), "/api/v1/services?limit=500");
  answer(200, page(object("c", "11"), "14"));
  EXPECT_EQ(objects.size(), 1u);
}

TEST_F(ListWatchTest, ARestoredServerWithOldNumbersAndOtherContentIsBelieved) {
  listed();
  ask(410, kGone);
  ask(200, page(object("a", "1", R"(,"spec":{"x":1})") + "," + object("b", "2"), "5"));
  EXPECT_NE(objects["shop/a"].find("spec"), std::string::npos);
}

TEST_F(ListWatchTest, RefusalsSayWhatToDoAndWaitLongerEachTime) {
  const auto first = ask(403, R"({"kind":"Status","message":"services is forbidden","code":403})");
  EXPECT_NE(first.error.find("services is forbidden"), std::string::npos) << first.error;
  EXPECT_NE(first.error.find(R"(resources ["services"], verbs ["list", "watch"])"),
            std::string::npos)
      << first.error;
  auto last = first.delay;
  for (int i = 0; i < 12; ++i) last = ask(500, "<html>").delay;
  EXPECT_GE(last, 7500ms);
  EXPECT_LE(last, 15000ms);
  EXPECT_TRUE(ask(401, "").unauthorized);
  it.target();
  it.begin(429, 30);
  EXPECT_GE(it.end("", 0s).delay, 30s);
  listed();
  EXPECT_LE(ask(500, "").delay, 200ms) << "success starts anew";
}

TEST_F(ListWatchTest, StreamsThatEndAtOnceAreNotHurried) {
  listed();
  EXPECT_GT(ask(200, "", "", 1ms).delay, 0ms);
  EXPECT_GT(ask(200, "", "", 1ms).delay, 100ms);
  EXPECT_EQ(ask(200, "", "", 30s).delay, 0ms);
}

TEST_F(ListWatchTest, AWatchThatAlwaysExpiresIsNotListedForAsOftenAsItAsks) {
  listed();
  std::chrono::milliseconds last{};
  for (int i = 0; i < 8; ++i) {
    const auto ending = ask(410, kGone, "", 1ms);
    last = ending.delay;
    EXPECT_TRUE(i < 4 || !ending.error.empty()) << "people are told";
    listed();
  }
  EXPECT_GT(last, 2s);
}

TEST_F(ListWatchTest, AWatchThatNeverMakesSenseIsGivenUpForAList) {
  listed();
  for (int i = 0; i < 10 && it.watching(); ++i) ask(400, "", "", 1ms);
  EXPECT_FALSE(it.watching());
  listed();
  for (int i = 0; i < 10 && it.watching(); ++i) ask(200, "{]\n", "", 1ms);
  EXPECT_FALSE(it.watching());
}

TEST_F(ListWatchTest, AStreamThatIsSilentToItsEndIsNotBelieved) {
  listed();
  ask(200, event("BOOKMARK", R"({"metadata":{"resourceVersion":"9"}})"), "", 500s);
  EXPECT_TRUE(it.watching());
  ask(200, "", "", 500s);
  EXPECT_FALSE(it.watching()) << "the server may wait for a version of a future it has lost";
}

TEST_F(ListWatchTest, WhatIsNoListOrNoEventIsAnErrorAndLosesNothing) {
  listed();
  EXPECT_NE(ask(200, "not json\n").error, "");
  EXPECT_EQ(objects.size(), 2u);
  ask(410, kGone);
  for (const char* body : {"", "{}", "[]", "null", "<html>", R"({"metadata":{},"items":[]})",
                           R"({"items":5,"metadata":{"resourceVersion":"1"}})"})
    EXPECT_NE(ask(200, body).error, "") << body;
  EXPECT_EQ(objects.size(), 2u);
  ask(200, R"({"metadata":{"resourceVersion":"9"},"items":null})");
  EXPECT_EQ(objects.size(), 0u);
}

TEST_F(ListWatchTest, AnObjectWithoutANameIsCountedAndPassedOver) {
  ask(200, page(R"({"metadata":{"name":5}},{"metadata":[]},{},)" + object("a", "1"), "5"));
  EXPECT_EQ(it.nameless(), 3u);
  EXPECT_EQ(objects.size(), 1u);
}

TEST_F(ListWatchTest, AnEventWithoutEndIsGivenUp) {
  listed();
  it.target();
  it.begin(200, std::nullopt);
  const std::string much(1 << 20, 'x');
  bool more = it.feed(R"({"type":"ADDED","object":{"x":")");
  EXPECT_TRUE(it.mid_event());
  int fed = 0;
  while (more && fed < 100) {
    more = it.feed(much);
    ++fed;
  }
  EXPECT_EQ(fed, 16);
  EXPECT_NE(it.end("", 1s).error.find("16 MB"), std::string::npos);
  EXPECT_EQ(objects.size(), 2u);
}

}  // namespace
}  // namespace weft::sources::kubernetes
