#include "control_plane/sources/kubernetes/credentials.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "mesh/base/fd.h"
#include "mesh/base/text.h"

namespace weft::sources::kubernetes {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

constexpr char kVersion[] = "client.authentication.k8s.io/v1";
const auto kStart = std::chrono::system_clock::from_time_t(1'767'225'600);  // 2026-01-01T00:00:00Z
constexpr auto kGuard = 60s;  // against hanging, not a figure

std::string certificate(const std::string& text) {
  return "-----BEGIN CERTIFICATE-----\n" + text + "\n-----END CERTIFICATE-----\n";
}
std::string key(const std::string& text) {
  return "-----BEGIN PRIVATE KEY-----\n" + text + "\n-----END PRIVATE KEY-----\n";
}

class CredentialsTest : public testing::Test {
 protected:
  CredentialsTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "weft-credentials-XXXXXX";
    box_ = mkdtemp(pattern.data());
  }
  ~CredentialsTest() override { std::filesystem::remove_all(box_); }

  std::string in(const std::string& name) const { return box_ + "/" + name; }
  void write(const std::string& name, const std::string& text) { std::ofstream(in(name)) << text; }
  std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(in(name)).rdbuf();
    return text.str();
  }
  // A file that nobody has touched for a while.
  void write_settled(const std::string& name, const std::string& text) {
    write(name, text);
    std::filesystem::last_write_time(in(name), kLongAgo);
  }

  // As kubelet swaps a projected volume: all its files at once, by one link.
  void project(const std::string& version, const std::string& token) {
    std::filesystem::create_directory(in(version));
    write_settled(version + "/token", token);
    std::filesystem::remove(in("..data_tmp"));
    std::filesystem::create_directory_symlink(version, in("..data_tmp"));
    std::filesystem::rename(in("..data_tmp"), in("..data"));
  }

  static void expect_trouble(const absl::StatusOr<bool>& result, const std::string& why) {
    ASSERT_FALSE(result.ok()) << "no trouble; expected: " << why;
    EXPECT_NE(base::message_of(result.status()).find(why), std::string::npos)
        << result.status().message() << "\nlacks: " << why;
  }
  static void expect(const absl::StatusOr<bool>& result, bool changed) {
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, changed);
  }

  const std::filesystem::file_time_type kLongAgo =
      std::filesystem::file_time_type::clock::now() - 1h;
  std::string box_;
};

TEST_F(CredentialsTest, MakesTheHeader) {
  Access access;
  EXPECT_EQ(Credentials(access).authorization(), "");
  access.basic_user = "me";
  access.basic_password = "p:w";
  EXPECT_EQ(Credentials(access).authorization(), "Basic bWU6cDp3");
  access.token = "t";
  EXPECT_EQ(Credentials(access).authorization(), "Bearer t");
}

TEST_F(CredentialsTest, NothingToReadIsNoChange) {
  Access access;
  access.token = "t";
  access.ca_pem = certificate("a");
  Credentials credentials(access);
  expect(credentials.refresh(kStart), false);
  credentials.rejected();
  expect(credentials.refresh(kStart), false);
  EXPECT_EQ(credentials.access(), access);
}

TEST_F(CredentialsTest, FollowsATokenThatKubeletSwaps) {
  project("..1", "one");
  std::filesystem::create_symlink("..data/token", in("token"));
  Access access;
  access.token = "one";
  access.token_file = in("token");
  Credentials credentials(access);
  expect(credentials.refresh(kStart), false);
  project("..2", "two");
  expect(credentials.refresh(kStart + 999ms), false);
  EXPECT_EQ(credentials.authorization(), "Bearer one");
  expect(credentials.refresh(kStart + 1s), false);
  EXPECT_EQ(credentials.authorization(), "Bearer two");
}

TEST_F(CredentialsTest, LooksAtOnceAfterA401) {
  write("token", "one");
  Access access;
  access.token_file = in("token");
  Credentials credentials(access);
  expect(credentials.refresh(kStart), false);
  write("token", "two");
  credentials.rejected();
  expect(credentials.refresh(kStart + 1ms), false);
  EXPECT_EQ(credentials.authorization(), "Bearer two");
  write("token", "three");
  expect(credentials.refresh(kStart + 2ms), false);
  EXPECT_EQ(credentials.authorization(), "Bearer two");
}

TEST_F(CredentialsTest, AQuietFileIsReadAgainOnlyAfterA401) {
  write_settled("token", "one");
  Access access;
  access.token_file = in("token");
  Credentials credentials(access);
  expect(credentials.refresh(kStart), false);
  // What cannot be seen without reading.
  write_settled("token", "two");
  expect(credentials.refresh(kStart + 1s), false);
  EXPECT_EQ(credentials.authorization(), "Bearer one");
  credentials.rejected();
  expect(credentials.refresh(kStart + 1s), false);
  EXPECT_EQ(credentials.authorization(), "Bearer two");
}

TEST_F(CredentialsTest, AYoungFileProvesNothing) {
  write("token", "one");
  const auto written = std::filesystem::last_write_time(in("token"));
  Access access;
  access.token_file = in("token");
  Credentials credentials(access);
  // Written twice in one tick of the file system's clock.
  std::filesystem::last_write_time(in("token"), written + 1h);
  expect(credentials.refresh(kStart), false);
  write("token", "two");
  std::filesystem::last_write_time(in("token"), written + 1h);
  expect(credentials.refresh(kStart + 1s), false);
  EXPECT_EQ(credentials.authorization(), "Bearer two");
}

TEST_F(CredentialsTest, AClockThatIsSetBackHoldsNothingUp) {
  write("token", "one");
  Access access;
  access.token_file = in("token");
  Credentials credentials(access);
  expect(credentials.refresh(kStart), false);
  write("token", "two");
  expect(credentials.refresh(kStart - 24h), false);
  EXPECT_EQ(credentials.authorization(), "Bearer two");
}

TEST_F(CredentialsTest, TheLastGoodTokenStaysAndTheTroubleIsToldUntilItIsMended) {
  write("token", "one");
  Access access;
  access.token_file = in("token");
  Credentials credentials(access);
  expect(credentials.refresh(kStart), false);
  auto now = kStart;
  for (const auto& [text, why] : std::initializer_list<std::pair<const char*, const char*>>{
           {"", "token is empty"}, {"two words", "token holds a character"}}) {
    write_settled("token", text);
    expect_trouble(credentials.refresh(now += 1s), why);
    expect_trouble(credentials.refresh(now + 1ms), why);
    expect_trouble(credentials.refresh(now += 1s), why);
    EXPECT_EQ(credentials.authorization(), "Bearer one");
  }
  std::filesystem::remove(in("token"));
  expect_trouble(credentials.refresh(now += 1s), "token: does not exist");
  EXPECT_EQ(credentials.authorization(), "Bearer one");
  write("token", "two");
  expect(credentials.refresh(now += 1s), false);
  EXPECT_EQ(credentials.authorization(), "Bearer two");
}

TEST_F(CredentialsTest, ToldOnceThatTheAuthoritiesChanged) {
  write("ca.crt", certificate("a"));
  Access access;
  access.ca_pem = certificate("a");
  access.ca_file = in("ca.crt");
  Credentials credentials(access);
  expect(credentials.refresh(kStart), false);
  write("ca.crt", certificate("a") + certificate("b"));
  expect(credentials.refresh(kStart + 1s), true);
  expect(credentials.refresh(kStart + 1s), false);
  EXPECT_EQ(credentials.access().ca_pem, certificate("a") + certificate("b"));
  // Another file with the same bytes is no change.
  write("aside", certificate("a") + certificate("b"));
  std::filesystem::rename(in("aside"), in("ca.crt"));
  expect(credentials.refresh(kStart + 2s), false);
  write("ca.crt", "-----BEGIN CERTIFICATE-----\nbroken off");
  expect_trouble(credentials.refresh(kStart + 3s), "ca.crt breaks off before the end of its PEM");
  EXPECT_EQ(credentials.access().ca_pem, certificate("a") + certificate("b"));
}

TEST_F(CredentialsTest, AClientCertificateIsTakenWithItsKey) {
  write("crt", certificate("a"));
  write("key", key("a"));
  Access access;
  access.client_cert_pem = certificate("a");
  access.client_key_pem = key("a");
  access.client_cert_file = in("crt");
  access.client_key_file = in("key");
  Credentials credentials(access);
  expect(credentials.refresh(kStart), false);
  write("crt", certificate("b"));
  write("key", "");
  expect_trouble(credentials.refresh(kStart + 1s), "key is empty");
  EXPECT_EQ(credentials.access(), access);
  write("key", key("b"));
  expect(credentials.refresh(kStart + 2s), true);
  EXPECT_EQ(credentials.access().client_cert_pem, certificate("b"));
  EXPECT_EQ(credentials.access().client_key_pem, key("b"));
}

TEST_F(CredentialsTest, NewTlsMaterialIsToldBeforeTheTroubleBesideIt) {
  write("ca.crt", certificate("b"));
  Access access;
  access.token = "one";
  access.token_file = in("none");
  access.ca_pem = certificate("a");
  access.ca_file = in("ca.crt");
  Credentials credentials(access);
  expect(credentials.refresh(kStart), true);
  EXPECT_EQ(credentials.access().ca_pem, certificate("b"));
  expect_trouble(credentials.refresh(kStart + 1ms), "none: does not exist");
  EXPECT_EQ(credentials.authorization(), "Bearer one");
}

class ExecPluginTest : public CredentialsTest {
 protected:
  // A shell script that counts how often it was run.
  Access plugin(const std::string& script) {
    write("plugin", "#!/bin/sh\ncd '" + box_ + "' && echo x >>runs\n" + script + "\n");
    std::filesystem::permissions(in("plugin"), std::filesystem::perms::owner_all);
    Access access;
    access.origin = "/kubeconfig";
    access.exec.emplace();
    access.exec->command = in("plugin");
    access.exec->api_version = kVersion;
    return access;
  }
  // Prints `status` in an ExecCredential.
  Access plugin_giving(const Json& status) {
    give(status);
    return plugin("cat answer");
  }
  void give(const Json& status) {
    write("answer",
          Json{{"apiVersion", kVersion}, {"kind", "ExecCredential"}, {"status", status}}.dump());
  }
  std::size_t runs() const {
    const auto text = read("runs");
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), 'x'));
  }
};

TEST_F(ExecPluginTest, GivesAToken) {
  Credentials credentials(plugin_giving({{"token", "abc"}}));
  EXPECT_EQ(credentials.authorization(), "");
  expect(credentials.refresh(kStart), false);
  EXPECT_EQ(credentials.authorization(), "Bearer abc");
  // Without an end it lasts until the server says otherwise.
  expect(credentials.refresh(kStart + 24h * 1000), false);
  EXPECT_EQ(runs(), 1u);
  give({{"token", "def"}});
  credentials.rejected();
  expect(credentials.refresh(kStart + 24h * 1000), false);
  EXPECT_EQ(credentials.authorization(), "Bearer def");
  EXPECT_EQ(runs(), 2u);
}

TEST_F(ExecPluginTest, GivesAClientCertificate) {
  Credentials credentials(
      plugin_giving({{"clientCertificateData", certificate("a")}, {"clientKeyData", key("a")}}));
  expect(credentials.refresh(kStart), true);
  EXPECT_EQ(credentials.authorization(), "");
  EXPECT_EQ(credentials.access().client_cert_pem, certificate("a"));
  EXPECT_EQ(credentials.access().client_key_pem, key("a"));
  credentials.rejected();
  expect(credentials.refresh(kStart), false);
  // What it gave first goes with what it gives next.
  give({{"token", "abc"}});
  credentials.rejected();
  expect(credentials.refresh(kStart), true);
  EXPECT_EQ(credentials.access().client_cert_pem, "");
  EXPECT_EQ(credentials.authorization(), "Bearer abc");
}

TEST_F(ExecPluginTest, IsRunAgainAMinuteBeforeTheEnd) {
  Credentials credentials(
      plugin_giving({{"token", "abc"}, {"expirationTimestamp", "2026-01-01T02:10:00+02:00"}}));
  expect(credentials.refresh(kStart), false);
  expect(credentials.refresh(kStart + 9min - 1s), false);
  EXPECT_EQ(runs(), 1u);
  give({{"token", "def"}, {"expirationTimestamp", "2026-01-01T00:20:00.5Z"}});
  expect(credentials.refresh(kStart + 9min), false);
  EXPECT_EQ(runs(), 2u);
  EXPECT_EQ(credentials.authorization(), "Bearer def");
  expect(credentials.refresh(kStart + 18min), false);
  EXPECT_EQ(runs(), 2u);
}

// A plugin that keeps what it has until it ends must not be run every second of its last minute.
TEST_F(ExecPluginTest, AShortLifeIsUsedToItsHalf) {
  Credentials credentials(
      plugin_giving({{"token", "abc"}, {"expirationTimestamp", "2026-01-01T00:00:40Z"}}));
  for (int second = 0; second < 20; ++second)
    expect(credentials.refresh(kStart + second * 1s), false);
  EXPECT_EQ(runs(), 1u);
  expect(credentials.refresh(kStart + 20s), false);
  EXPECT_EQ(runs(), 2u);
}

TEST_F(ExecPluginTest, AnEndBeyondAllClocksIsNone) {
  Credentials credentials(
      plugin_giving({{"token", "abc"}, {"expirationTimestamp", "9999-12-31T23:59:59Z"}}));
  expect(credentials.refresh(kStart), false);
  expect(credentials.refresh(kStart + 24h * 10000), false);
  EXPECT_EQ(runs(), 1u);
}

TEST_F(ExecPluginTest, WhatHasExpiredIsUsedAndToldAbout) {
  Credentials credentials(
      plugin_giving({{"token", "abc"}, {"expirationTimestamp", "2025-12-31T23:59:59Z"}}));
  expect_trouble(credentials.refresh(kStart), "gave a credential that has expired");
  EXPECT_EQ(credentials.authorization(), "Bearer abc");
  expect_trouble(credentials.refresh(kStart + 999ms), "gave a credential that has expired");
  EXPECT_EQ(runs(), 1u);
  expect_trouble(credentials.refresh(kStart + 1s), "gave a credential that has expired");
  EXPECT_EQ(runs(), 2u);
}

TEST_F(ExecPluginTest, IsToldWhatItIsFor) {
  auto access = plugin(
      "printf '%s' \"$KUBERNETES_EXEC_INFO\" >info; printf '%s|' \"$@\" >args; "
      "printf '%s|' \"$WEFT_A\" \"$WEFT_B\" >env; cat >stdin; cat answer");
  give({{"token", "abc"}});
  access.exec->args = {"get token", "$HOME", ""};
  access.exec->env = {{"WEFT_A", "first"}, {"WEFT_A", "a b"}};
  setenv("WEFT_A", "outer", 1);
  setenv("WEFT_B", "kept", 1);
  Credentials credentials(access);
  expect(credentials.refresh(kStart), false);
  EXPECT_EQ(Json::parse(read("info")), (Json{{"apiVersion", kVersion},
                                             {"kind", "ExecCredential"},
                                             {"spec", {{"interactive", false}}}}));
  EXPECT_EQ(read("args"), "get token|$HOME||");
  EXPECT_EQ(read("env"), "a b|kept|");
  EXPECT_EQ(read("stdin"), "");
  access.exec->cluster_json = R"({"server":"https://h"})";
  Credentials with_cluster(access);
  expect(with_cluster.refresh(kStart), false);
  EXPECT_EQ(Json::parse(read("info"))["spec"],
            (Json{{"interactive", false}, {"cluster", {{"server", "https://h"}}}}));
  unsetenv("WEFT_A");
  unsetenv("WEFT_B");
}

TEST_F(ExecPluginTest, GetsNoneOfOurDescriptorsAndSignals) {
  const base::Fd ours(fcntl(STDERR_FILENO, F_DUPFD, 100));  // without close-on-exec
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  const auto handler = signal(SIGPIPE, SIG_IGN);
  auto access = plugin(
      "ls /proc/$$/fd | sort -n | tr '\\n' ' ' >fds; grep -E 'Sig(Blk|Ign)' /proc/self/status "
      ">signals; cat answer");
  give({{"token", "abc"}});
  Credentials credentials(access);
  expect(credentials.refresh(kStart), false);
  signal(SIGPIPE, handler);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(read("fds").find(std::to_string(ours.get())), std::string::npos) << read("fds");
  // One hexadecimal mask a line; 32 and 33 are the C library's own.
  std::istringstream lines(read("signals"));
  int masks = 0;
  for (std::string name, mask; lines >> name >> mask; ++masks)
    EXPECT_EQ(std::stoull(mask, nullptr, 16) & ~0x180000000ull, 0u) << name << " " << mask;
  EXPECT_EQ(masks, 2);
}

TEST_F(ExecPluginTest, AFailureNamesItsCauseAndKeepsWhatWasThere) {
  write("large", std::string(10'000'000, 'x'));
  const std::string begin = std::string("echo '{\"apiVersion\":\"") + kVersion +
                            "\",\"kind\":\"ExecCredential\",\"status\":";
  for (const auto& [script, why] : std::initializer_list<std::pair<std::string, const char*>>{
           {"echo first >&2; echo 'not logged in' >&2; echo >&2; exit 1",
            "ended with status 1: not logged in"},
           {"exit 3", "ended with status 3"},
           {"printf 'a\\033[2Jb' >&2; exit 1", "status 1: a\\x1b[2Jb"},
           {"cat large >&2; echo >&2; echo last >&2; exit 1", "status 1: last"},
           {"echo dying >&2; kill -9 $$", "was killed by signal 9: dying"},
           {"exit 0", "printed nothing"},
           {"echo hunter2", "printed what is not JSON"},
           {"echo '{\"token\": \"hunter2'", "printed what is not JSON"},
           {"echo '[]'", "printed no ExecCredential"},
           {"echo '\"hunter2\"'", "printed what is not JSON"},
           {"echo '{\"kind\": \"ExecCredential\", \"kind\": \"x\"}'",
            "printed JSON that has the key"},
           {"echo '{\"kind\":\"Secret\"}'", "printed no ExecCredential"},
           {"echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"v1\"}'",
            "was asked for client.authentication.k8s.io/v1 and answered in \"v1\""},
           {begin + "null}'", "without a status"},
           {begin + "{}}'", "gave neither a token nor a client certificate"},
           {begin + "{\"token\":7}}'", "gave a token that is no string"},
           {begin + "{\"token\":\"hunter2 \\\\n x\"}}'", "gave a token that holds a character"},
           {begin + "{\"clientKeyData\":\"x\"}}'",
            "gave a clientKeyData that holds no private key"},
           {begin + "{\"token\":\"hunter2\",\"expirationTimestamp\":\"soon\"}}'",
            "gave an expirationTimestamp that is not of RFC 3339"},
           {"cat large", "printed more than 1 MB and was killed"},
           {"cat large; exec sleep 1000", "printed more than 1 MB and was killed"}}) {
    SCOPED_TRACE(script);
    auto access = plugin(script);
    access.token = "old";
    Credentials credentials(access, kGuard);
    const auto result = credentials.refresh(kStart);
    expect_trouble(result, why);
    expect_trouble(result, "/kubeconfig: exec plugin \"" + in("plugin") + "\" ");
    EXPECT_EQ(base::message_of(result.status()).find("hunter2"), std::string::npos);
    EXPECT_EQ(credentials.authorization(), "Bearer old");
  }
}

TEST_F(ExecPluginTest, HalfAClientCertificateIsNone) {
  Credentials credentials(plugin_giving({{"clientCertificateData", certificate("a")}}));
  expect_trouble(credentials.refresh(kStart), "gave only one of clientCertificateData");
  EXPECT_EQ(credentials.access().client_cert_pem, "");
}

TEST_F(ExecPluginTest, OneThatIsMissingIsFoundLater) {
  auto access = plugin("");
  std::filesystem::remove(in("plugin"));
  Credentials credentials(access);
  expect_trouble(credentials.refresh(kStart), "cannot be started: No such file or directory");
  plugin_giving({{"token", "abc"}});
  expect_trouble(credentials.refresh(kStart + 999ms), "cannot be started");
  expect(credentials.refresh(kStart + 1s), false);
  EXPECT_EQ(credentials.authorization(), "Bearer abc");
  std::filesystem::permissions(in("plugin"), std::filesystem::perms::owner_read);
  credentials.rejected();
  expect_trouble(credentials.refresh(kStart + 1s), "cannot be started: Permission denied");
  EXPECT_EQ(credentials.authorization(), "Bearer abc");
}

TEST_F(ExecPluginTest, OneThatNeverEndsIsKilledWithWhatItStarted) {
  ASSERT_EQ(mkfifo(in("alive").c_str(), 0600), 0);
  const base::Fd alive(open(in("alive").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  ASSERT_TRUE(alive);
  // Both sleepers hold the FIFO open.
  Credentials credentials(plugin("exec 9>alive; echo waiting >&2; sleep 1000 & sleep 1000"),
                          2500ms);  // until then the shell has said what it has to say
  const auto begin = std::chrono::steady_clock::now();
  expect_trouble(credentials.refresh(kStart), "did not end within 2500 ms and was killed: waiting");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kGuard);
  pollfd polled{alive.get(), POLLIN, 0};
  EXPECT_EQ(poll(&polled, 1, std::chrono::milliseconds(kGuard).count()), 1);
  EXPECT_TRUE(polled.revents & POLLHUP);
}

TEST_F(ExecPluginTest, ADaemonThatItLeavesBehindIsNotWaitedFor) {
  auto access = plugin("sleep 1000 & echo $! >daemon; cat answer");
  give({{"token", "abc"}});
  Credentials credentials(access, 1000s);
  expect(credentials.refresh(kStart), false);
  EXPECT_EQ(credentials.authorization(), "Bearer abc");
  EXPECT_EQ(kill(std::stoi(read("daemon")), SIGKILL), 0);
}

}  // namespace
}  // namespace weft::sources::kubernetes
