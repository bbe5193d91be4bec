#include "agent/proxy/workloads.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "abi/capture.h"

namespace weft::proxy {
namespace {

// Everything that is done to the outside, in order.
class WorkloadsTest : public ::testing::Test {
 protected:
  Workloads make(std::set<std::uint64_t> inherited = {}) {
    Workloads::Hooks hooks;
    hooks.add = [this](auto cookie, int) { note("add", cookie); };
    hooks.drop = [this](auto cookie) { note("drop", cookie); };
    hooks.listen = [this](auto cookie, auto done) {
      note("listen", cookie);
      asked[cookie] = std::move(done);
    };
    hooks.capture = [this](auto cookie, auto) {
      note("capture", cookie);
      return map_is_full ? absl::ResourceExhaustedError("full") : absl::OkStatus();
    };
    hooks.release = [this](auto cookie) { note("release", cookie); };
    hooks.tell = [this](const auto& message, const auto& descriptors) {
      if (message.has_workload_gone())
        return note("tell gone", message.workload_gone().netns_cookie());
      told = message.workload();
      note("tell", told.netns_cookie());
      EXPECT_EQ(told.listeners(), descriptors.size());
    };
    hooks.identify = [this](const auto&) { return identity; };
    hooks.changed = [] {};
    return Workloads(std::move(hooks), std::move(inherited));
  }
  static Namespace found(std::uint64_t cookie) {
    Namespace one;
    one.cookie = cookie;
    one.file = std::make_shared<base::Fd>(open("/dev/null", O_RDONLY | O_CLOEXEC));
    one.process = "curl";
    return one;
  }
  static Sockets::Listening listening(std::uint32_t families = 3) {
    Sockets::Listening result;
    result.families = families;
    for (auto left = families; left; left &= left - 1)
      result.listeners.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
    return result;
  }
  void note(const std::string& what, std::uint64_t cookie) {
    steps.push_back(what + " " + std::to_string(cookie));
  }
  std::vector<std::string> take() { return std::exchange(steps, {}); }

  using Steps = std::vector<std::string>;
  Steps steps;
  std::map<std::uint64_t, std::function<void(Sockets::Listening)>> asked;
  weft::v1::Workload told;
  Identity identity;
  bool map_is_full = false;
};

TEST_F(WorkloadsTest, AreCapturedOnlyOnceAProxyAccepts) {
  auto workloads = make();
  workloads.appeared(found(7));
  EXPECT_EQ(take(), (Steps{"add 7", "listen 7"}));
  EXPECT_EQ(workloads.captured(), 0u);
  asked[7](listening());
  EXPECT_EQ(take(), (Steps{"tell 7", "capture 7"}));
  EXPECT_EQ(workloads.captured(), 1u);
  EXPECT_EQ(told.listeners(), 2u);
  EXPECT_EQ(told.name(), "curl");
}

TEST_F(WorkloadsTest, AreReleasedBeforeTheirListenersClose) {
  auto workloads = make();
  workloads.appeared(found(7));
  asked[7](listening());
  take();
  workloads.gone(7);
  EXPECT_EQ(take(), (Steps{"release 7", "tell gone 7", "drop 7"}));
  EXPECT_EQ(workloads.size(), 0u);
}

TEST_F(WorkloadsTest, ThatGoWhileTheyAreListenedForAreNotCaptured) {
  auto workloads = make();
  workloads.appeared(found(7));
  workloads.gone(7);
  take();
  asked[7](listening());
  EXPECT_EQ(take(), Steps{});
}

TEST_F(WorkloadsTest, WithOneFamilyHaveOneListener) {
  auto workloads = make();
  workloads.appeared(found(7));
  asked[7](listening(WEFT_LISTENING_V6));
  ASSERT_EQ(workloads.listeners().size(), 1u);
  EXPECT_EQ(workloads.listeners()[0].family, std::uint32_t{WEFT_LISTENING_V6});
}

TEST_F(WorkloadsTest, WithoutAListenerAreTriedAgain) {
  auto workloads = make();
  workloads.appeared(found(7));
  workloads.retry();
  EXPECT_EQ(take(), (Steps{"add 7", "listen 7"})) << "it is being asked for";
  Sockets::Listening none;
  none.error = "127.0.0.1:15001: somebody listens there";
  asked[7](std::move(none));
  EXPECT_EQ(take(), Steps{});
  workloads.retry();
  EXPECT_EQ(take(), Steps{"listen 7"});
  asked[7](listening());
  EXPECT_EQ(take(), (Steps{"tell 7", "capture 7"}));
  workloads.retry();
  EXPECT_EQ(take(), Steps{});
}

TEST_F(WorkloadsTest, ThatTheMapHadNoRoomForAreTriedAgain) {
  map_is_full = true;
  auto workloads = make();
  workloads.appeared(found(7));
  asked[7](listening());
  EXPECT_EQ(workloads.captured(), 0u);
  map_is_full = false;
  take();
  workloads.retry();
  EXPECT_EQ(take(), Steps{"capture 7"});
  EXPECT_EQ(workloads.captured(), 1u);
}

TEST_F(WorkloadsTest, KeepTheListenersOfAnEarlierProxy) {
  auto workloads = make({7, 8});
  std::map<std::uint64_t, Adopted> adopted;
  adopted[7].families = WEFT_LISTENING_V4;
  adopted[7].listeners = std::move(listening(1).listeners);
  workloads.adopt(std::move(adopted));
  workloads.appeared(found(7));
  EXPECT_EQ(take(), (Steps{"add 7", "tell 7", "capture 7"}));
  workloads.settle();
  EXPECT_EQ(take(), Steps{"release 8"}) << "nobody is in it any more";
  workloads.settle();
  EXPECT_EQ(take(), Steps{});
}

TEST_F(WorkloadsTest, AreToldToEveryNewProxy) {
  auto workloads = make();
  workloads.appeared(found(7));
  workloads.appeared(found(8));
  asked[8](listening());
  int greeted = 0;
  workloads.greet([&](const auto& message, const auto& descriptors) {
    ++greeted;
    EXPECT_EQ(message.workload().netns_cookie(), 8u);
    EXPECT_EQ(descriptors.size(), 2u);
  });
  EXPECT_EQ(greeted, 1);
}

TEST_F(WorkloadsTest, AreToldToAnotherSocketMakerAndKeepTheirListeners) {
  auto workloads = make();
  workloads.appeared(found(7));
  workloads.appeared(found(8));
  asked[8](listening());
  take();
  workloads.introduce();
  EXPECT_EQ(take(), (Steps{"add 7", "listen 7", "add 8"}));
}

TEST_F(WorkloadsTest, AreToldAgainWhenWeKnowBetterWhoTheyAre) {
  auto workloads = make();
  workloads.appeared(found(7));
  asked[7](listening());
  take();
  workloads.identify_again();
  EXPECT_EQ(take(), Steps{});
  identity.name = "web-1";
  identity.labels["app"] = "web";
  workloads.identify_again();
  EXPECT_EQ(take(), Steps{"tell 7"});
  EXPECT_EQ(told.listeners(), 0u) << "it has them";
  EXPECT_EQ(told.labels().at("app"), "web");
}

}  // namespace
}  // namespace weft::proxy
