// Beginnings, ends and oddities of connections. After each: no pair is left, nobody is charged.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "tests/bpf/bypass_shared.h"
#include "tests/bpf/bypass_streams.h"

namespace weft::tests {
namespace {

class BypassEdges : public SharedBypassTest {};

void set_option(const base::Fd& fd, int level, int option, int value) {
  ASSERT_EQ(setsockopt(fd.get(), level, option, &value, sizeof value), 0) << std::strerror(errno);
}

sockaddr_in address_of(const base::Fd& listener) {
  sockaddr_in at{};
  socklen_t length = sizeof at;
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at), &length);
  return at;
}

int connect_fd(const base::Fd& fd, const sockaddr_in& at) {
  return connect(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at);
}

base::Fd fresh_socket(int flags = 0) {
  return base::Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
}

// All until the end of the stream, or `size` bytes.
std::string hear_all(const base::Fd& fd, std::size_t size) {
  std::string all;
  while (all.size() < size) {
    const auto more = hear(fd, size - all.size());
    if (more.empty() && errno != EAGAIN) break;
    all += more;
  }
  return all;
}

void talk(const base::Fd& client, const base::Fd& server, int rounds = 3) {
  for (int i = 0; i < rounds; ++i) {
    const auto ask = "ask " + std::to_string(i), answer = "answer " + std::to_string(i);
    say(client, ask);
    EXPECT_EQ(hear_all(server, ask.size()), ask);
    say(server, answer);
    EXPECT_EQ(hear_all(client, answer.size()), answer);
  }
}

// The third acknowledgement waits for the first data, so that the first message goes by TCP before
// the server has joined, and the second might be redirected past it.
TEST_F(BypassEdges, QuickAckOffBeforeConnectKeepsTheFirstBytesInOrder) {
  const auto listener = listen_here();
  for (int i = 0; i < 200; ++i) {
    auto client = fresh_socket();
    set_option(client, IPPROTO_TCP, TCP_QUICKACK, 0);
    ASSERT_EQ(connect_fd(client, address_of(listener)), 0);
    say(client, "A");
    say(client, "B");
    const auto server = accept_one(listener);
    say(client, "C");
    ASSERT_EQ(hear_all(server, 3), "ABC");
    talk(client, server);
  }
  EXPECT_GT(bytes_now(WEFT_BYPASS_UNPAIRED), 0u);
}

TEST_F(BypassEdges, FastOpenKeepsTheFirstBytesInOrder) {
  std::ofstream("/proc/sys/net/ipv4/tcp_fastopen") << 0x207;  // no cookies, both sides
  const auto listener = listen_here();
  set_option(listener, IPPROTO_TCP, TCP_FASTOPEN, 64);
  const auto at = address_of(listener);
  for (int i = 0; i < 100; ++i) {
    const auto client = fresh_socket();
    ASSERT_EQ(sendto(client.get(), "A", 1, MSG_FASTOPEN, reinterpret_cast<const sockaddr*>(&at),
                     sizeof at),
              1);
    say(client, "B");
    const auto server = accept_one(listener);
    say(client, "C");
    ASSERT_EQ(hear_all(server, 3), "ABC");
    talk(client, server);
    tcp_info info{};
    socklen_t length = sizeof info;
    getsockopt(client.get(), IPPROTO_TCP, TCP_INFO, &info, &length);
    ASSERT_TRUE(info.tcpi_options & TCPI_OPT_SYN_DATA) << "the kernel did not fast open";
  }
}

// Its server joins with the first data, long after the client did.
TEST_F(BypassEdges, AServerThatDefersAcceptingHearsTheFirstBytesInOrder) {
  const auto listener = listen_here();
  set_option(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
  for (int i = 0; i < 50; ++i) {
    const auto client = fresh_socket();
    ASSERT_EQ(connect_fd(client, address_of(listener)), 0);
    say(client, "A");
    say(client, "B");
    const auto server = accept_one(listener);
    say(client, "C");
    ASSERT_EQ(hear_all(server, 3), "ABC");
    talk(client, server);
  }
}

// Inside recv() since before it was established, it waits as a plain TCP socket does: what were
// redirected to it would not wake it.
TEST_F(BypassEdges, AClientThatReadsBeforeItIsConnectedHearsTheGreeting) {
  const auto listener = base::Fd(listen_here());
  ASSERT_EQ(listen(listener.get(), 0), 0);
  base::Fd fillers[2];
  for (auto& filler : fillers) {
    filler = fresh_socket(SOCK_NONBLOCK);
    connect_fd(filler, address_of(listener));
  }
  const auto client = fresh_socket(SOCK_NONBLOCK);
  ASSERT_EQ(connect_fd(client, address_of(listener)), -1);
  fcntl(client.get(), F_SETFL, 0);
  const timeval patience{60, 0};  // its SYN may be sent a third time, after 3 s
  setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::string greeting;
  std::thread reader([&] { greeting = hear(client); });
  std::vector<base::Fd> servers;
  sockaddr_in own{};
  socklen_t length = sizeof own;
  getsockname(client.get(), reinterpret_cast<sockaddr*>(&own), &length);
  for (bool found = false; !found;) {  // its SYN is sent again
    servers.push_back(accept_one(listener));
    sockaddr_in peer{};
    length = sizeof peer;
    getpeername(servers.back().get(), reinterpret_cast<sockaddr*>(&peer), &length);
    found = peer.sin_port == own.sin_port;
  }
  say(servers.back(), "greeting");
  reader.join();
  EXPECT_EQ(greeting, "greeting");
}

TEST_F(BypassEdges, MoreAndCorkLoseAndReorderNothing) {
  const auto [client, server] = connect_here();
  EXPECT_EQ(send(client.get(), "a", 1, MSG_MORE), 1);
  EXPECT_EQ(send(client.get(), "b", 1, 0), 1);
  set_option(client, IPPROTO_TCP, TCP_CORK, 1);
  say(client, "c");
  say(client, "d");
  set_option(client, IPPROTO_TCP, TCP_CORK, 0);
  EXPECT_EQ(hear_all(server, 4), "abcd");
  // By TCP, where they hold back what is not a full segment.
  maps_->set_mode(WEFT_BYPASS_OFF);
  EXPECT_EQ(send(client.get(), "e", 1, MSG_MORE), 1);
  maps_->set_mode(WEFT_BYPASS_ON);
  EXPECT_EQ(send(client.get(), "f", 1, 0), 1);
  EXPECT_EQ(hear_all(server, 2), "ef");
}

TEST_F(BypassEdges, TheEndOfAStreamComesBehindWhatIsQueued) {
  auto [client, server] = connect_here();
  for (int i = 0; i < 100; ++i) say(client, make_bytes(0, 1000 * static_cast<unsigned>(i), 1000));
  client = base::Fd();
  Heard heard = read_stream(server.get(), Reading::kBlocking);
  EXPECT_EQ(heard.wrong, "");
  EXPECT_EQ(heard.from[0], 100'000u);
  EXPECT_GT(messages_now(WEFT_BYPASS_REDIRECTED), 90u);
}

TEST_F(BypassEdges, EachSideMayEndItsOwnDirectionAndStillHear) {
  for (const int first : {0, 1}) {
    const auto made = connect_here();
    const auto& ends = first ? made.server : made.client;
    const auto& goes_on = first ? made.client : made.server;
    say(ends, "last");
    shutdown(ends.get(), SHUT_WR);
    EXPECT_EQ(hear(goes_on), "last");
    EXPECT_EQ(hear(goes_on), "");
    for (int i = 0; i < 3; ++i) {
      say(goes_on, "still");
      EXPECT_EQ(hear(ends), "still");
    }
    EXPECT_EQ(send(ends.get(), "x", 1, MSG_NOSIGNAL), -1);
    EXPECT_EQ(errno, EPIPE);
  }
}

TEST_F(BypassEdges, AResetIsAReset) {
  auto [client, server] = connect_here();
  talk(client, server);
  close_with_reset(server);
  pollfd ended{client.get(), 0, 0};  // inside recv() it would be told EAGAIN first
  EXPECT_EQ(poll(&ended, 1, 60'000), 1);
  char byte;
  EXPECT_EQ(recv(client.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(send(client.get(), "x", 1, MSG_NOSIGNAL), -1);
}

TEST_F(BypassEdges, AZeroWindowOpensAgainAndNothingIsMissing) {
  const auto [client, server] = connect_here();
  std::uint64_t sent = 0;
  for (ssize_t got; (got = send(client.get(), make_bytes(0, sent, 40'000).data(), 40'000,
                                MSG_DONTWAIT | MSG_NOSIGNAL)) > 0;)
    sent += static_cast<std::uint64_t>(got);
  EXPECT_EQ(errno, EAGAIN);
  pollfd room{client.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&room, 1, 0), 0);
  shutdown(client.get(), SHUT_WR);
  const auto heard = read_stream(server.get(), Reading::kBlocking);
  EXPECT_EQ(heard.wrong, "");
  EXPECT_EQ(heard.from[0], sent);
}

// TCP_REPAIR sets the first sequence number of a socket that is not connected yet.
TEST_F(BypassEdges, SequenceNumbersThatWrapProveWhatTheyShould) {
  maps_->set_limits(8192, kernel::kBypassNodeLimit);
  const auto listener = listen_here();
  for (const std::uint32_t before : {1u, 2u, 100u, 5000u, 20'000u, 65'536u}) {
    EXPECT_TRUE(eventually([&] { return maps_->pairs()->empty(); }));  // the last one has gone
    const auto client = fresh_socket();
    set_option(client, IPPROTO_TCP, TCP_REPAIR, 1);
    set_option(client, IPPROTO_TCP, TCP_REPAIR_QUEUE, 2);  // TCP_SEND_QUEUE
    const std::uint32_t first = 0u - before;
    ASSERT_EQ(setsockopt(client.get(), IPPROTO_TCP, TCP_QUEUE_SEQ, &first, sizeof first), 0);
    set_option(client, IPPROTO_TCP, TCP_REPAIR, -1);  // off, without a probe
    ASSERT_EQ(connect_fd(client, address_of(listener)), 0);
    const auto server = accept_one(listener);
    EXPECT_EQ(static_cast<std::uint32_t>(only_pair().value.way[0].proof), first + 1);
    for (std::uint64_t sent = 0; sent < 200'000; sent += 10'000) {  // more than its credit: by TCP
      say(client, make_bytes(0, sent, 10'000));
      Heard heard;
      heard.from[0] = sent;
      EXPECT_EQ(check_bytes(hear_all(server, 10'000).data(), 10'000, heard), "");
      talk(client, server, 2);
    }
    EXPECT_GE(only_pair().value.way[0].messages, 10u);
  }
}

TEST_F(BypassEdges, SendfileAndSpliceWriteThroughIt) {
  const auto [client, server] = connect_here();
  char name[] = "/tmp/weft-lab-XXXXXX";
  const base::Fd file(mkstemp(name));
  unlink(name);
  const auto text = make_bytes(0, 0, 300'000);
  ASSERT_EQ(write(file.get(), text.data(), text.size()), ssize_t{300'000});
  std::thread writer([&, fd = client.get()] {
    off_t at = 0;
    while (at < 150'000)
      if (sendfile(fd, file.get(), &at, static_cast<std::size_t>(150'000 - at)) <= 0) break;
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const base::Fd out(ends[0]), in(ends[1]);
    while (at < 300'000) {
      auto piped = splice(file.get(), &at, in.get(), nullptr, 60'000, 0);
      ASSERT_GT(piped, 0);
      while (piped > 0) {
        const auto moved =
            splice(out.get(), nullptr, fd, nullptr, static_cast<std::size_t>(piped), SPLICE_F_MORE);
        ASSERT_GT(moved, 0);
        piped -= moved;
      }
    }
    shutdown(fd, SHUT_WR);
  });
  const auto heard = read_stream(server.get(), Reading::kEpollEdge);
  writer.join();
  EXPECT_EQ(heard.wrong, "");
  EXPECT_EQ(heard.from[0], 300'000u);
  EXPECT_GT(messages_now(WEFT_BYPASS_REDIRECTED), 0u);
}

TEST_F(BypassEdges, AProgramThatInheritsTheSocketGoesOnWithIt) {
  auto [client, server] = connect_here();
  talk(client, server);
  say(client, "queued before, ");
  const pid_t child = fork();
  if (!child) {
    dup2(server.get(), 0);
    dup2(server.get(), 1);
    execl("/bin/cat", "cat", nullptr);
    _exit(1);
  }
  server = base::Fd();
  say(client, "and after");
  EXPECT_EQ(hear_all(client, 24), "queued before, and after");
  shutdown(client.get(), SHUT_WR);
  EXPECT_EQ(hear(client), "");
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

// In another process, since a process may not have so many descriptors as both sides need.
[[noreturn]] void be_ten_thousand_clients(const sockaddr_in& at) {
  std::vector<base::Fd> clients;
  for (int i = 0; i < 10'000; ++i) {
    clients.push_back(fresh_socket());
    if (connect_fd(clients.back(), at)) _exit(1);
    if (send(clients.back().get(), "ask", 3, MSG_NOSIGNAL) != 3) _exit(2);
  }
  for (const auto& client : clients)
    if (hear_all(client, 6) != "answer") _exit(3);
  _exit(0);
}

TEST_F(BypassEdges, TenThousandShortConnectionsAtOnceLeaveNothing) {
  rlimit many{};
  getrlimit(RLIMIT_NOFILE, &many);
  many.rlim_cur = many.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &many), 0);
  ASSERT_GT(many.rlim_max, 11'000u) << "needs more descriptors";
  const auto listener = listen_here();
  const pid_t child = fork();
  if (!child) be_ten_thousand_clients(address_of(listener));
  std::vector<base::Fd> servers;
  for (int i = 0; i < 10'000; ++i) servers.push_back(accept_one(listener));
  EXPECT_EQ(maps_->pairs()->size(), 10'000u);
  for (const auto& server : servers) {
    ASSERT_EQ(hear_all(server, 3), "ask");
    say(server, "answer");
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_GT(messages_now(WEFT_BYPASS_REDIRECTED), 9'000u);
}

// A socket may connect again; what was queued for its first connection is not for the second.
TEST_F(BypassEdges, ASocketThatConnectsAgainHearsNothingOfItsFirstConnection) {
  const auto listener = listen_here();
  auto [client, server] = connect_to(listener);
  talk(client, server);
  say(server, "old");
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  ASSERT_EQ(connect(client.get(), &none, sizeof none), 0);
  server = base::Fd();
  EXPECT_TRUE(eventually([&] { return maps_->pairs()->empty(); }));
  ASSERT_EQ(connect_fd(client, address_of(listener)), 0);
  server = accept_one(listener);
  say(server, "new");
  EXPECT_EQ(hear(client), "new");
  talk(client, server);
  EXPECT_GT(only_pair().value.way[0].messages, 0u);
}

TEST_F(BypassEdges, ConnectionsThatNobodyAcceptedLeaveNothingWhenTheirListenerCloses) {
  auto listener = listen_here();
  std::vector<base::Fd> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(fresh_socket());
    ASSERT_EQ(connect_fd(clients.back(), address_of(listener)), 0);
    say(clients.back(), "unheard");
  }
  listener = base::Fd();
  for (const auto& client : clients) {
    char byte;
    EXPECT_EQ(recv(client.get(), &byte, 1, 0), -1);
    EXPECT_EQ(errno, ECONNRESET);
  }
  clients.clear();
}

}  // namespace
}  // namespace weft::tests
