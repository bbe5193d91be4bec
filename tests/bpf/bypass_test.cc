// The rules of the bypass, one by one, on real sockets.
#include <sys/ioctl.h>

#include <filesystem>

#include "tests/bpf/bypass_fixture.h"

namespace weft::tests {
namespace {

TEST_F(BypassTest, BothEndsPairUpAndTheirBytesTakeTheShortcut) {
  auto [client, server] = connect_here();
  for (int i = 0; i < 3; ++i) {
    say(client, "ask");
    EXPECT_EQ(hear(server), "ask");
    say(server, "answer");
    EXPECT_EQ(hear(client), "answer");
  }
  const auto pair = only_pair().value;
  EXPECT_EQ(pair.way[0].bytes, 9u);
  EXPECT_EQ(pair.way[1].bytes, 18u);
  EXPECT_EQ(pair.way[0].tcp_bytes + pair.way[1].tcp_bytes, 0u);
  EXPECT_EQ(messages(WEFT_BYPASS_REDIRECTED), 6u);
}

TEST_F(BypassTest, ItWorksOverIpv6) {
  auto [client, server] = connect_here(AF_INET6);
  say(client, "ask");
  EXPECT_EQ(hear(server), "ask");
  EXPECT_EQ(messages(WEFT_BYPASS_REDIRECTED), 1u);
}

TEST_F(BypassTest, APairGoesWithTheSecondOfItsEnds) {
  auto [client, server] = connect_here();
  say(client, "x");
  EXPECT_EQ(hear(server), "x");
  client = base::Fd();
  EXPECT_EQ(hear(server), "");
  // The client's end closes with the acknowledgement of its FIN, which may have come by now.
  EXPECT_EQ(only_pair().value.closed & 2, 0u);
  server = base::Fd();
  EXPECT_TRUE(eventually([&] { return maps_->pairs()->empty(); }));
  EXPECT_TRUE(eventually([&] { return maps_->totals().charged == 0; }));
}

// 6.18.44 counts nothing but what was redirected, Debian's 6.1 nothing but what came by TCP. Who
// stops reading at 0 (nginx) stops with bytes before it: docs/bypass.md.
TEST_F(BypassTest, AJoinedSocketsFionreadCountsOneOfTheTwoWaysAndNotTheOther) {
  auto [client, server] = connect_here();
  const auto unread = [&] {
    int size = -1;
    ioctl(server.get(), FIONREAD, &size);
    return size;
  };
  say(client, "one");
  EXPECT_EQ(messages(WEFT_BYPASS_REDIRECTED), 1u);
  const bool counts_redirected = unread() == 3;
  EXPECT_EQ(hear(server), "one");
  maps_->set_limits(0, kernel::kBypassNodeLimit);
  say(client, "three");
  EXPECT_EQ(messages(WEFT_BYPASS_CREDIT), 1u);
  const bool counts_tcp = unread() == 5;
  EXPECT_NE(counts_redirected, counts_tcp);
  EXPECT_EQ(hear(server), "three");
}

TEST_F(BypassTest, TheNextMessageAfterOffGoesByTcpBehindWhatIsQueued) {
  auto [client, server] = connect_here();
  say(client, "one");
  maps_->set_mode(WEFT_BYPASS_OFF);
  say(client, "two");
  maps_->set_mode(WEFT_BYPASS_ON);
  say(client, "three");
  std::string all;
  while (all.size() < 11) all += hear(server);
  EXPECT_EQ(all, "onetwothree");
  EXPECT_EQ(messages(WEFT_BYPASS_REDIRECTED), 1u);
  EXPECT_EQ(messages(WEFT_BYPASS_TURNED_OFF), 1u);
  // Its acknowledgement left the client in the map, since "one" was still to be read.
  EXPECT_EQ(messages(WEFT_BYPASS_ORDER), 1u);
}

TEST_F(BypassTest, ALongStreamMovesToPlainTcpByItself) {
  auto [client, server] = connect_here();
  const std::string piece(1000, 'x');
  std::size_t heard = 0;
  for (int i = 0; i < 3000; ++i) {
    say(client, piece);
    heard += hear(server).size();
  }
  while (heard < 3000 * piece.size()) heard += hear(server).size();
  const auto pair = only_pair().value;
  EXPECT_EQ(pair.stream, 1u);
  EXPECT_EQ(maps_->look(only_pair().id, 0), WEFT_BYPASS_LOOK_GONE);  // left the map
  EXPECT_LT(pair.way[0].bytes, 1100 * piece.size());
  // ... and sendmsg() is the kernel's own again: no program counts what it sends.
  EXPECT_LT(pair.way[0].bytes + pair.way[0].tcp_bytes, 2000 * piece.size());
}

TEST_F(BypassTest, AReaderThatDoesNotReadHasNoMoreThanItsCreditQueued) {
  auto [client, server] = connect_here();
  const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  const std::string piece(64 << 10, 'x');
  std::size_t sent = 0;
  for (ssize_t got; (got = send(client.get(), piece.data(), piece.size(), flags)) > 0;)
    sent += static_cast<std::size_t>(got);
  EXPECT_LE(only_pair().value.way[0].bytes, kernel::kBypassCredit);
  EXPECT_GT(only_pair().value.way[0].bytes, kernel::kBypassCredit / 2);
  EXPECT_GT(only_pair().value.way[0].tcp_bytes, 0u);
  std::size_t heard = 0;
  while (heard < sent) heard += hear(server).size();
  EXPECT_EQ(heard, sent);
}

// As an upgrade to a weftd of another layout finds it, and the way back.
TEST_F(BypassTest, ConnectionsOfAnotherLayoutGoOnAsTheyJoinedAndNewOnesJoinHere) {
  const auto exchange = [](Connection& connection) {
    say(connection.client, "ask");
    EXPECT_EQ(hear(connection.server), "ask");
    say(connection.server, "answer");
    EXPECT_EQ(hear(connection.client), "answer");
  };
  const auto here = node_.pins().root + "/bypass_1", there = node_.pins().root + "/bypass_0";
  auto before = connect_here();
  exchange(before);
  ASSERT_EQ(rename(here.c_str(), there.c_str()), 0);
  auto old = std::move(*maps_);
  auto fresh = kernel::load_bypass(node_.pins(), node_.cgroup());
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  maps_.emplace(*std::move(fresh));
  maps_->set_mode(WEFT_BYPASS_ON);
  EXPECT_EQ(*kernel::retire_other_bypasses(node_.pins()), 1u);
  auto after = connect_here();
  exchange(before);
  exchange(after);
  EXPECT_EQ(old.pairs()->size(), 1u) << "nobody new joined there";
  EXPECT_EQ(old.pairs()->front().value.way[0].bytes, 6u);
  EXPECT_EQ(only_pair().value.way[0].bytes, 3u);

  before = {};
  EXPECT_TRUE(eventually([&] { return *kernel::retire_other_bypasses(node_.pins()) == 0; }));
  EXPECT_NE(access(there.c_str(), F_OK), 0);
  exchange(after);

  ASSERT_EQ(rename(here.c_str(), there.c_str()), 0);  // now it is that one which is old
  fresh = kernel::load_bypass(node_.pins(), node_.cgroup());
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  EXPECT_EQ(*kernel::retire_other_bypasses(node_.pins()), 1u);
  exchange(after);
  after = {};
  EXPECT_TRUE(eventually([&] { return *kernel::retire_other_bypasses(node_.pins()) == 0; }));
}

TEST_F(BypassTest, TheJoinProgramGoesWithTheLastConnectionThatJoinedAndComesBack) {
  auto joined = connect_here();
  say(joined.client, "ask");
  maps_->set_joining(false);
  maps_->set_mode(WEFT_BYPASS_OFF);
  EXPECT_FALSE(*kernel::detach_bypass(node_.pins()));
  EXPECT_EQ(hear(joined.server), "ask");
  // Both ends leave the map by their packets; the pair goes when they close, and only then.
  for (int turn = 0; turn < 3; ++turn) {
    say(joined.server, "by tcp");
    EXPECT_EQ(hear(joined.client), "by tcp");
    say(joined.client, "by tcp");
    EXPECT_EQ(hear(joined.server), "by tcp");
  }
  EXPECT_FALSE(*kernel::detach_bypass(node_.pins()));
  EXPECT_TRUE(kernel::read_bypass_hook(node_.pins(), node_.cgroup()).effective);

  joined = {};
  EXPECT_TRUE(eventually([&] { return *kernel::detach_bypass(node_.pins()); }));
  EXPECT_FALSE(kernel::read_bypass_hook(node_.pins(), node_.cgroup()).attached);
  EXPECT_TRUE(*kernel::detach_bypass(node_.pins())) << "and again";
  const auto pairs_so_far = maps_->totals().pairs;
  auto plain = connect_here();
  say(plain.client, "plain");
  EXPECT_EQ(hear(plain.server), "plain");
  EXPECT_EQ(maps_->totals().pairs, pairs_so_far);

  ASSERT_TRUE(kernel::load_bypass(node_.pins(), node_.cgroup()).ok());
  maps_->set_mode(WEFT_BYPASS_ON);
  auto again = connect_here();
  say(again.client, "joined");
  EXPECT_EQ(hear(again.server), "joined");
  EXPECT_EQ(maps_->totals().pairs, pairs_so_far + 1);
}

// Its server's listener is of another cgroup: it has joined alone, and leaves with a packet.
TEST_F(BypassTest, TheJoinProgramStaysForAClientThatJoinedAlone) {
  const auto outside = std::filesystem::path(node_.cgroup()).parent_path();
  ASSERT_TRUE(enter_cgroup(outside));
  const auto listener = listen_here();
  ASSERT_TRUE(enter_cgroup(node_.cgroup()));
  auto [client, server] = connect_to(listener);
  maps_->set_joining(false);
  maps_->set_mode(WEFT_BYPASS_OFF);
  ASSERT_TRUE(maps_->pairs()->empty());
  EXPECT_FALSE(*kernel::detach_bypass(node_.pins()));
  say(client, "ask");
  EXPECT_EQ(hear(server), "ask");
  say(server, "answer");
  EXPECT_EQ(hear(client), "answer");
  EXPECT_TRUE(eventually([&] { return *kernel::detach_bypass(node_.pins()); }));
  say(client, "by tcp");
  EXPECT_EQ(hear(server), "by tcp");
}

TEST_F(BypassTest, UninstallWaitsForWhatIsQueuedAndNamesTheConnection) {
  auto [client, server] = connect_here();
  say(client, "unread");
  std::vector<std::string> waited_for;
  auto status = kernel::uninstall_bypass(node_.pins(), [&](const auto& queues) {
    waited_for = queues;
    return false;
  });
  EXPECT_FALSE(status.ok());
  ASSERT_EQ(waited_for.size(), 1u);
  EXPECT_TRUE(waited_for[0].ends_with(": for the server")) << waited_for[0];
  EXPECT_EQ(hear(server), "unread");
  status = kernel::uninstall_bypass(node_.pins(), [](const auto&) { return false; });
  EXPECT_TRUE(status.ok()) << status;
  say(client, "by tcp");
  EXPECT_EQ(hear(server), "by tcp");
}

}  // namespace
}  // namespace weft::tests
