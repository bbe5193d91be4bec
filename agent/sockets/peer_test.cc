#include "agent/sockets/peer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>

#include "agent/sockets/protocol.h"

namespace weft::sockets {
namespace {

struct Pair {
  Pair() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    near = base::Fd(fds[0]);
    far = base::Fd(fds[1]);
  }
  base::Fd near, far;
};

std::vector<base::Fd> some_descriptors(int count) {
  std::vector<base::Fd> all;
  for (int i = 0; i < count; ++i) all.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  return all;
}

Answer answer_of(const Datagram& datagram) {
  Answer answer;
  EXPECT_TRUE(datagram.read(answer));
  return answer;
}

constexpr Answer kSixteen{.tag = 7, .count = 16, .error = 0};
constexpr Answer kWithout{.tag = 7, .count = 0, .error = EAGAIN};

TEST(Datagram, CarriesAsManyDescriptorsAsMayBeAskedFor) {
  Pair pair;
  const auto sent = some_descriptors(kMostAtOnce);
  ASSERT_EQ(send_datagram(pair.near.get(), bytes_of(kSixteen), sent), 0);
  Datagram got;
  ASSERT_EQ(receive_datagram(pair.far.get(), got), 0);
  EXPECT_EQ(answer_of(got).tag, 7u);
  EXPECT_EQ(got.descriptors.size(), std::size_t{kMostAtOnce});
  for (const auto& fd : got.descriptors) EXPECT_TRUE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC);
  EXPECT_EQ(receive_datagram(pair.far.get(), got), EAGAIN);
  EXPECT_EQ(send_datagram(pair.near.get(), bytes_of(kSixteen), some_descriptors(17)), E2BIG);
}

TEST(Datagram, OfAnotherLengthIsNoMessage) {
  Pair pair;
  const Ask ask{};
  ASSERT_EQ(send_datagram(pair.near.get(), bytes_of(ask)), 0);
  Datagram got;
  ASSERT_EQ(receive_datagram(pair.far.get(), got), 0);
  Answer answer;
  EXPECT_FALSE(got.read(answer));
  std::byte large[200] = {};
  ASSERT_EQ(send_datagram(pair.near.get(), large), 0);
  ASSERT_EQ(receive_datagram(pair.far.get(), got), 0);
  EXPECT_TRUE(got.cut);
}

TEST(Datagram, TellsThatTheOtherEndIsClosed) {
  Pair pair;
  pair.near = base::Fd();
  Datagram got;
  EXPECT_EQ(receive_datagram(pair.far.get(), got), ECONNRESET);
  EXPECT_EQ(send_datagram(pair.far.get(), bytes_of(kSixteen)), EPIPE);
}

// Whoever does not read: answers are dropped, not waited with, and that is said later.
TEST(Peer, SaysLaterThatAnAnswerFoundNoRoom) {
  Pair pair;
  Peer peer(std::move(pair.near));
  const auto descriptors = some_descriptors(2);
  int fitted = 0;
  while (!peer.owes()) {
    ASSERT_TRUE(peer.answer(bytes_of(kSixteen), descriptors, bytes_of(kWithout)));
    ASSERT_LT(++fitted, 100000);
  }
  EXPECT_TRUE(peer.settle());
  EXPECT_TRUE(peer.owes()) << "still no room";
  Datagram got;
  for (int i = 0; i + 1 < fitted; ++i) {
    ASSERT_EQ(receive_datagram(pair.far.get(), got), 0);
    EXPECT_EQ(answer_of(got).error, 0);
  }
  EXPECT_TRUE(peer.settle());
  EXPECT_FALSE(peer.owes());
  ASSERT_EQ(receive_datagram(pair.far.get(), got), 0);
  EXPECT_EQ(answer_of(got).error, EAGAIN);
  EXPECT_TRUE(got.descriptors.empty());
}

TEST(Peer, ThatIsGoneIsToldApart) {
  Pair pair;
  Peer peer(std::move(pair.near));
  pair.far = base::Fd();
  EXPECT_FALSE(peer.answer(bytes_of(kSixteen), {}, bytes_of(kWithout)));
}

}  // namespace
}  // namespace weft::sockets
