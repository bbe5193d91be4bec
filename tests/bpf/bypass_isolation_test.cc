// Who must never meet, and who stays out.
#include <unistd.h>

#include <thread>

#include "tests/bpf/bypass_shared.h"
#include "tests/bpf/bypass_streams.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace weft::tests {
namespace {

constexpr std::uint16_t kServerPort = 7000, kClientPort = 7001;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return at;
}

base::Fd bound(std::uint16_t port, int protocol = 0) {
  base::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const auto at = loopback(port);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), 0)
      << std::strerror(errno);
  return fd;
}

base::Fd listening(std::uint16_t port, int protocol = 0) {
  auto fd = bound(port, protocol);
  EXPECT_EQ(listen(fd.get(), 16), 0);
  return fd;
}

bool connects(const base::Fd& fd, std::uint16_t port) {
  const auto at = loopback(port);
  return connect(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
}

// The same four numbers in whatever namespace this thread is, and the same first sequence number
// of the client's.
Connection connect_by_numbers(std::uint32_t first) {
  const auto listener = listening(kServerPort);
  Connection made;
  made.client = bound(kClientPort);
  const int on = 1, send_queue = 2, off = -1;
  setsockopt(made.client.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof on);
  setsockopt(made.client.get(), IPPROTO_TCP, TCP_REPAIR_QUEUE, &send_queue, sizeof send_queue);
  EXPECT_EQ(setsockopt(made.client.get(), IPPROTO_TCP, TCP_QUEUE_SEQ, &first, sizeof first), 0);
  setsockopt(made.client.get(), IPPROTO_TCP, TCP_REPAIR, &off, sizeof off);
  EXPECT_TRUE(connects(made.client, kServerPort)) << std::strerror(errno);
  made.server = accept_one(listener);
  return made;
}

class BypassIsolation : public SharedBypassTest {
 protected:
  static void talk(const base::Fd& client, const base::Fd& server, const std::string& word) {
    for (int i = 0; i < 20; ++i) {
      say(client, "ask " + word);
      EXPECT_EQ(hear(server), "ask " + word);
      say(server, "answer " + word);
      EXPECT_EQ(hear(client), "answer " + word);
    }
  }
  // Sockets made outside of the agent's cgroup stay outside.
  template <class Make>
  auto outside(Make make) {
    EXPECT_TRUE(enter_cgroup(cgroup().substr(0, cgroup().rfind('/'))));
    auto made = make();
    EXPECT_TRUE(enter_cgroup(cgroup()));
    return made;
  }
};

TEST_F(BypassIsolation, EqualTuplesInTwoNamespacesNeverMeet) {
  const auto here = connect_by_numbers(1'000'000);
  Connection there;
  std::thread([&] {
    const Namespace other;
    there = connect_by_numbers(1'000'000);
  }).join();
  const auto pairs = *maps_->pairs();
  ASSERT_EQ(pairs.size(), 2u);
  for (const auto& pair : pairs)
    EXPECT_EQ(pair.value.end[0].netns_cookie, pair.value.end[1].netns_cookie);
  EXPECT_NE(pairs[0].value.end[0].netns_cookie, pairs[1].value.end[0].netns_cookie);
  say(here.client, "here");
  say(there.client, "there");
  EXPECT_EQ(hear(here.server), "here");
  EXPECT_EQ(hear(there.server), "there");
  talk(here.client, here.server, "here");
  talk(there.client, there.server, "there");
  EXPECT_GT(messages_now(WEFT_BYPASS_REDIRECTED), 70u);
}

TEST_F(BypassIsolation, AClientOutsideOfTheCgroupIsNotPaired) {
  const auto listener = listening(kServerPort);
  const auto client = outside([] { return bound(0); });
  ASSERT_TRUE(connects(client, kServerPort));
  talk(client, accept_one(listener), "x");
  EXPECT_TRUE(maps_->pairs()->empty());
  EXPECT_EQ(messages_now(WEFT_BYPASS_REDIRECTED), 0u);
}

TEST_F(BypassIsolation, AClientWhoseServerIsOutsideOfTheCgroupLeavesTheMap) {
  const auto listener = outside([] { return listening(kServerPort); });
  const auto client = bound(0);
  ASSERT_TRUE(connects(client, kServerPort));
  const auto server = outside([&] { return accept_one(listener); });
  talk(client, server, "x");
  EXPECT_TRUE(maps_->pairs()->empty());
  EXPECT_EQ(messages_now(WEFT_BYPASS_REDIRECTED), 0u);
  // Its own first acknowledgements take it out: what it sends then is the kernel's own.
  EXPECT_LT(messages_now(WEFT_BYPASS_UNPAIRED), 10u);
}

TEST_F(BypassIsolation, MptcpStaysOut) {
  const base::Fd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP));
  if (!probe) {
    std::printf("not run: kernel feature mptcp\n");
    return;
  }
  const auto listener = listening(kServerPort, IPPROTO_MPTCP);
  const auto client = bound(0, IPPROTO_MPTCP);
  ASSERT_TRUE(connects(client, kServerPort));
  talk(client, accept_one(listener), "x");
  EXPECT_TRUE(maps_->pairs()->empty());
  EXPECT_EQ(messages_now(WEFT_BYPASS_REDIRECTED), 0u);
  // Neither does a plain client of such a listener, which falls back to TCP inside MPTCP.
  const auto plain = bound(0);
  ASSERT_TRUE(connects(plain, kServerPort));
  talk(plain, accept_one(listener), "y");
}

TEST_F(BypassIsolation, ASocketThatGetsAnUpperProtocolGoesByTcp) {
  const auto [client, server] = connect_here();
  talk(client, server, "x");
  if (setsockopt(client.get(), IPPROTO_TCP, TCP_ULP, "tls", 3) && errno == ENOENT) {
    std::printf("not run: kernel feature ktls\n");
    return;
  }
  say(client, "by tcp");
  EXPECT_EQ(hear(server), "by tcp");
  EXPECT_EQ(messages_now(WEFT_BYPASS_ULP), 1u);
}

}  // namespace
}  // namespace weft::tests
