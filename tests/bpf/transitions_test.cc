// The breaker's transitions, as one table: the kernel's programs and weft-proxy move the same
// words, so both must come to the same from each state by each event.
//
// Not in the table, since only one of the two has it: programs eject no endpoint that takes no new
// connections (weft_endpoints is not the proxy's to see), datagrams close a breaker by time alone,
// and HTTP answers open one (proxy_local_cluster_test).
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <ostream>

#include "abi/why.h"
#include "breaker_step.h"
#include "transitions.skel.h"
#include "userspace_proxy/net/breaker.h"

namespace weft::tests {
namespace {

enum class Passes { kNo, kYes, kProbe };
using Duration = std::int64_t;  // milliseconds
constexpr Duration kSecond = 1000;

struct Word {
  std::uint32_t state = WEFT_BREAKER_CLOSED;
  std::uint32_t reason = WEFT_BREAKER_NONE;
  std::uint32_t counts = 0, ejections = 0;
  // From now; nothing: 0, as in a word that was never written. Not long ago: before the machine's
  // boot there is no time, and it may have been booted just now.
  std::optional<Duration> until;
};
struct State {
  Word word;
  std::uint32_t ejected = 0;  // of the service
};
struct Given {
  State state;
  step_event event;
  std::uint32_t failures = 0;       // in a row until now
  std::optional<Duration> failing;  // since so long
  std::uint32_t most = 1;           // max_ejected
  std::uint32_t connections = 0;    // to the endpoint, of 3 that may be
  Duration failing_for = 0, warmup = 0;
  std::uint32_t threshold = 3;
};
struct Case {
  const char* name;
  Given given;
  State becomes;
  Passes passes = Passes::kNo;  // of an admission
};
void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }

constexpr auto kClosed = WEFT_BREAKER_CLOSED;
constexpr auto kOpen = WEFT_BREAKER_OPEN;
constexpr auto kHalf = WEFT_BREAKER_HALF_OPEN;
constexpr auto kNone = WEFT_BREAKER_NONE;
constexpr auto kRefused = WEFT_BREAKER_REFUSED;
constexpr auto kReset = WEFT_BREAKER_RESET;
constexpr auto kByHand = WEFT_BREAKER_OPERATOR;

// baseEjectionTime 30 s up to 300 s, interval 10 s, lease 15 s.
weft_policy policy_of(const Given& given) {
  weft_policy policy{};
  policy.threshold = given.threshold;
  policy.failing_for_ms = static_cast<std::uint32_t>(given.failing_for);
  policy.base_ejection_ms = 30 * kSecond;
  policy.max_ejection_ms = 300 * kSecond;
  policy.interval_ms = 10 * kSecond;
  policy.lease_ms = 15 * kSecond;
  policy.warmup_ms = static_cast<std::uint32_t>(given.warmup);
  policy.max_ejected = given.most;
  policy.max_per_endpoint = 3;
  return policy;
}

const Word kNew{};
const Word kOut{kOpen, kReset, 1, 1, 20 * kSecond};
const Word kDue{kOpen, kReset, 1, 1, -1 * kSecond};
const Word kProbed{kHalf, kReset, 1, 1, 10 * kSecond};
const Word kForgotten{kHalf, kReset, 1, 1, -1 * kSecond};  // its probe vanished
const Word kProbedByHand{kHalf, kByHand, 0, 0, 10 * kSecond};

const Case kCases[] = {
    // Admission.
    {"ANewOnePasses", {{kNew, 0}, STEP_ADMIT}, {kNew, 0}, Passes::kYes},
    {"OneThatIsOutDoesNot", {{kOut, 1}, STEP_ADMIT}, {kOut, 1}},
    {"MoreAreOutThanMayBeButOthersServe", {{kOut, 2}, STEP_ADMIT}, {kOut, 2}},
    {"MoreAreOutThanMayBeAndNobodyElseServes",
     {{kOut, 2}, STEP_ADMIT_OVER},
     {kOut, 2},
     Passes::kYes},
    {"NobodyElseServesButNoMoreAreOutThanMayBe", {{kOut, 1}, STEP_ADMIT_OVER}, {kOut, 1}},
    {"NobodyIsEjectedAnyMore",
     {.state = {kOut, 1}, .event = STEP_ADMIT, .threshold = 0},
     {kOut, 1},
     Passes::kYes},
    {"OutByHandIsOutHoweverManyAre",
     {{{kOpen, kByHand, 0, 0, 9 * kSecond}, 2}, STEP_ADMIT_OVER},
     {{kOpen, kByHand, 0, 0, 9 * kSecond}, 2}},
    {"ItsTimeIsOver",
     {{kDue, 1}, STEP_ADMIT},
     {{kHalf, kReset, 1, 1, 15 * kSecond}, 1},
     Passes::kProbe},
    {"ItsTimeIsOverButItIsFull",
     {.state = {kDue, 1}, .event = STEP_ADMIT, .connections = 3},
     {kDue, 1}},
    {"ItsProbeIsUnderWay", {{kProbed, 1}, STEP_ADMIT}, {kProbed, 1}},
    {"ItsProbeVanished",
     {{kForgotten, 1}, STEP_ADMIT},
     {{kHalf, kReset, 1, 1, 15 * kSecond}, 1},
     Passes::kProbe},
    {"ItCameBackJustNow",
     {.state = {{kClosed, kReset, 0, 1, 0}, 0}, .event = STEP_ADMIT, .warmup = 3600 * kSecond},
     {{kClosed, kReset, 0, 1, 0}, 0}},
    {"ItCameBackLongAgo",
     {.state = {{kClosed, kReset, 0, 1, -25 * kSecond}, 0},
      .event = STEP_ADMIT,
      .warmup = 20 * kSecond},
     {{kClosed, kReset, 0, 1, -25 * kSecond}, 0},
     Passes::kYes},
    // Failures.
    {"OneFailureIsNone", {{kNew, 0}, STEP_FAIL}, {kNew, 0}},
    {"TheThirdOpensIt", {{kNew, 0}, STEP_FAIL, 2}, {{kOpen, kRefused, 1, 1, 30 * kSecond}, 1}},
    {"ButNotBelowTheFloor", {{kNew, 1}, STEP_FAIL, 2}, {kNew, 1}},
    {"NorWhereNobodyMayBeOut",
     {.state = {kNew, 0}, .event = STEP_FAIL, .failures = 2, .most = 0},
     {kNew, 0}},
    {"ASecondEjectionIsLonger",
     {{{kClosed, kReset, 0, 2, -5 * kSecond}, 0}, STEP_FAIL, 2},
     {{kOpen, kRefused, 1, 3, 90 * kSecond}, 1}},
    {"IntervalsWithoutOneForgetThem",
     {{{kClosed, kReset, 0, 4, -25 * kSecond}, 0}, STEP_FAIL, 2},
     {{kOpen, kRefused, 1, 3, 90 * kSecond}, 1}},
    {"AllOfThemInTime",
     {{{kClosed, kReset, 0, 2, -25 * kSecond}, 0}, STEP_FAIL, 2},
     {{kOpen, kRefused, 1, 1, 30 * kSecond}, 1}},
    {"TheirNumberAndTimeHaveAnEnd",
     {{{kClosed, kReset, 0, 255, -5 * kSecond}, 0}, STEP_FAIL, 2},
     {{kOpen, kRefused, 1, 255, 300 * kSecond}, 1}},
    {"FailingForLongOpensItToo",
     {.state = {kNew, 0},
      .event = STEP_FAIL,
      .failures = 1,
      .failing = 20 * kSecond,
      .failing_for = 10 * kSecond},
     {{kOpen, kRefused, 1, 1, 30 * kSecond}, 1}},
    {"FailingForAWhileDoesNot",
     {.state = {kNew, 0},
      .event = STEP_FAIL,
      .failures = 1,
      .failing = 2 * kSecond,
      .failing_for = 10 * kSecond},
     {kNew, 0}},
    {"OneThatIsOutFailsLate", {{kOut, 1}, STEP_FAIL, 9}, {kOut, 1}},
    {"AnotherThanTheProbeFails", {{kProbed, 1}, STEP_FAIL, 9}, {kProbed, 1}},
    // Probes.
    {"AProbeThatFailsOpensItForLonger",
     {{kProbed, 1}, STEP_FAIL_PROBE},
     {{kOpen, kRefused, 1, 2, 60 * kSecond}, 1}},
    {"ByHandItsFailureCountsFromThenOn",
     {{kProbedByHand, 0}, STEP_FAIL_PROBE},
     {{kOpen, kRefused, 1, 1, 30 * kSecond}, 1}},
    {"ByHandWhereNoMoreMayBeOutItServes",
     {{kProbedByHand, 1}, STEP_FAIL_PROBE},
     {{kClosed, kByHand, 0, 0, 0}, 1}},
    {"AProbeThatFailsLateIsNone", {{kOut, 1}, STEP_FAIL_PROBE}, {kOut, 1}},
    {"AProbeThatIsAnsweredClosesIt", {{kProbed, 1}, STEP_ANSWER}, {{kClosed, kReset, 0, 1, 0}, 0}},
    {"ByHandItWasNoneOfTheEjected",
     {{kProbedByHand, 1}, STEP_ANSWER},
     {{kClosed, kByHand, 0, 0, 0}, 1}},
    {"TheCountNeverFallsBelowZero", {{kProbed, 0}, STEP_ANSWER}, {{kClosed, kReset, 0, 1, 0}, 0}},
    {"AnAnswerClosesNothingElse", {{kOut, 1}, STEP_ANSWER}, {kOut, 1}},
    {"AProbeThatIsLostMakesRoomForTheNext",
     {{kProbed, 1}, STEP_LOSE},
     {{kOpen, kReset, 1, 1, 0}, 1}},
    {"ALostOneChangesNothingElse", {{kOut, 1}, STEP_LOSE}, {kOut, 1}},
    {"NorOfOneThatIsClosed", {{kNew, 0}, STEP_LOSE}, {kNew, 0}},
};

std::uint64_t now_ms() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000ull + time.tv_nsec / 1000000;
}

std::uint64_t make(const Word& word, std::uint64_t now) {
  return weft_breaker_make(word.state, word.reason, word.counts, word.ejections,
                           word.until ? now + *word.until : 0);
}

// What a step works on, and what it came to.
struct Words {
  weft_endpoint_state endpoint{};
  weft_service_state service{};
  weft_policy policy{};
  Passes passes = Passes::kNo;

  Words(const Given& given, std::uint64_t now) : policy(policy_of(given)) {
    endpoint.breaker = make(given.state.word, now);
    endpoint.consecutive = given.failures;
    endpoint.active = given.connections;
    if (given.failing) endpoint.failing_since_ms = now - *given.failing;
    service.ejected = given.state.ejected;
  }
};

// A time that was written meanwhile is of the moment it was written, `before` to `after`.
void expect(const Case& one, const Words& words, std::uint64_t before, std::uint64_t after) {
  const std::uint64_t word = words.endpoint.breaker;
  const auto& wanted = one.becomes.word;
  EXPECT_EQ(weft_breaker_state(word), wanted.state);
  EXPECT_EQ(weft_breaker_reason(word), wanted.reason);
  EXPECT_EQ(weft_breaker_counts(word), wanted.counts);
  EXPECT_EQ(weft_breaker_ejections(word), wanted.ejections);
  EXPECT_GE(weft_breaker_until_ms(word), wanted.until ? before + *wanted.until : 0);
  EXPECT_LE(weft_breaker_until_ms(word), wanted.until ? after + *wanted.until : 0);
  EXPECT_EQ(words.service.ejected, one.becomes.ejected);
  if (one.given.event == STEP_ADMIT || one.given.event == STEP_ADMIT_OVER) {
    EXPECT_EQ(words.passes, one.passes);
  }
}

class Transitions : public testing::TestWithParam<Case> {};

TEST_P(Transitions, OfTheProxy) {
  const auto& one = GetParam();
  const auto now = now_ms();
  Words words(one.given, now);
  net::Shares shares;
  shares.state = &words.endpoint;
  shares.policy = &words.policy;
  shares.total = &words.service;
  const net::Breaker breaker(nullptr);
  switch (one.given.event) {
    case STEP_ADMIT:
    case STEP_ADMIT_OVER: {
      const auto said = breaker.admit(shares, now, 12345, one.given.event == STEP_ADMIT_OVER);
      words.passes = said == net::Admission::kYes     ? Passes::kYes
                     : said == net::Admission::kProbe ? Passes::kProbe
                                                      : Passes::kNo;
      break;
    }
    case STEP_FAIL:
    case STEP_FAIL_PROBE:
      breaker.charge(shares, kRefused, one.given.event == STEP_FAIL_PROBE, now);
      break;
    case STEP_ANSWER:
      breaker.on_status(shares, 200, true, now);
      break;
    case STEP_LOSE:
      breaker.lose(shares, now);
      break;
  }
  expect(one, words, now, now);
}

// The programs, once for all cases: the verifier takes its time.
transitions& programs() {
  static const std::unique_ptr<transitions, void (*)(transitions*)> loaded(
      transitions__open_and_load(), transitions__destroy);
  return *loaded;
}

TEST_P(Transitions, OfTheKernel) {
  const auto& one = GetParam();
  ASSERT_NE(&programs(), nullptr) << "needs root, or the verifier refused: see above";
  const auto& maps = programs().maps;
  const std::uint32_t key = 1;
  const auto put = [&](const bpf_map* map, const auto& value) {
    ASSERT_EQ(bpf_map__update_elem(map, &key, sizeof key, &value, sizeof value, 0), 0);
  };
  const auto get = [&](const bpf_map* map, auto& value) {
    ASSERT_EQ(bpf_map__lookup_elem(map, &key, sizeof key, &value, sizeof value, 0), 0);
  };
  weft_endpoint endpoint{};
  endpoint.word = weft_endpoint_make(1, 0, WEFT_ENDPOINT_USED | WEFT_ENDPOINT_READY, 0);
  endpoint.weight = 1;
  put(maps.weft_endpoints, endpoint);
  const auto before = now_ms();
  Words words(one.given, before);
  put(maps.weft_policies, words.policy);
  put(maps.weft_service_states, words.service);
  put(maps.weft_endpoint_states, words.endpoint);

  std::array<unsigned char, 64> packet{}, answer{};
  breaker_step step{one.given.event, 0};
  std::memcpy(packet.data() + 14, &step, sizeof step);
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet.data(), .data_out = answer.data(),
              .data_size_in = packet.size(), .data_size_out = answer.size());
  ASSERT_EQ(bpf_prog_test_run_opts(bpf_program__fd(programs().progs.breaker_run), &run), 0);
  ASSERT_EQ(run.retval, 0u);
  const auto after = now_ms();
  std::memcpy(&step, answer.data() + 14, sizeof step);
  constexpr std::uint32_t kYes = 1, kProbe = 2;  // enum weft_admission of lib/breaker.bpf.h
  words.passes = step.admission == kYes     ? Passes::kYes
                 : step.admission == kProbe ? Passes::kProbe
                                            : Passes::kNo;
  get(maps.weft_endpoint_states, words.endpoint);
  get(maps.weft_service_states, words.service);
  expect(one, words, before, after);
}

INSTANTIATE_TEST_SUITE_P(Breaker, Transitions, testing::ValuesIn(kCases),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace weft::tests
