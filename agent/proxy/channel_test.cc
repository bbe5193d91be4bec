#include "agent/proxy/channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weft/v1/proxy.pb.h>

#include <chrono>
#include <cstring>

namespace weft::proxy {
namespace {

using namespace std::chrono_literals;

weft::v1::Text text(std::string said) {
  weft::v1::Text message;
  message.set_text(std::move(said));
  return message;
}

struct Inbox {
  std::vector<std::string> messages;
  bool closed = false;
  Channel::Events events() {
    return {[this](std::string_view bytes) {
              weft::v1::Text message;
              message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
              messages.push_back(message.text());
            },
            [this] { closed = true; }};
  }
};

// A clock alone would say nothing on a busy machine.
template <class Condition>
void run_until(boost::asio::io_context& io, Condition condition) {
  for (int i = 0; i < 6000 && !condition(); ++i) io.run_for(10ms);
}

TEST(Channel, CarriesMessagesOfAnySizeInOrder) {
  boost::asio::io_context io;
  auto ends = make_ends(SOCK_STREAM);
  Inbox a, b;
  Channel left(io, std::move(ends.ours), a.events());
  Channel right(io, std::move(ends.theirs), b.events());
  const std::vector<std::string> sent = {"", "x", std::string(3 << 20, 'y'), "z"};
  for (const auto& message : sent) left.send(text(message));
  right.send(text("back"));
  run_until(io, [&] { return b.messages.size() >= sent.size() && !a.messages.empty(); });
  EXPECT_EQ(b.messages, sent);
  EXPECT_EQ(a.messages, std::vector<std::string>{"back"});
}

TEST(Channel, SendsDescriptorsWithTheFirstByteOfTheirMessage) {
  boost::asio::io_context io;
  auto ends = make_ends(SOCK_STREAM);
  Channel channel(io, std::move(ends.ours), {});
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const base::Fd in(pipe_ends[0]);
  {
    const base::Fd out(pipe_ends[1]);
    channel.send(text("first"));
    channel.send(text("with"), {out.get()});
  }
  char bytes[64];
  iovec part{bytes, 4 + 2 + 5};  // length, tag and size, text
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ASSERT_EQ(recvmsg(ends.theirs.get(), &message, 0), 11);
  EXPECT_EQ(message.msg_controllen, 0u);
  message.msg_controllen = sizeof control;
  ASSERT_EQ(recvmsg(ends.theirs.get(), &message, 0), 10);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  ASSERT_NE(header, nullptr);
  int fd;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  EXPECT_EQ(write(fd, "!", 1), 1);
  close(fd);
  EXPECT_EQ(read(in.get(), bytes, 1), 1);
}

TEST(Channel, TellsOnceThatTheOtherSideHasGone) {
  boost::asio::io_context io;
  auto ends = make_ends(SOCK_STREAM);
  Inbox inbox;
  Channel channel(io, std::move(ends.ours), inbox.events());
  ends.theirs = base::Fd();
  run_until(io, [&] { return inbox.closed; });
  EXPECT_TRUE(inbox.closed);
  channel.send(text("into nothing"));
  io.restart();
  io.run_for(10ms);
}

TEST(Channel, ClosesOnALengthThatNobodySends) {
  boost::asio::io_context io;
  auto ends = make_ends(SOCK_STREAM);
  Inbox inbox;
  Channel channel(io, std::move(ends.ours), inbox.events());
  ASSERT_EQ(write(ends.theirs.get(), "\xff\xff\xff\xff", 4), 4);
  run_until(io, [&] { return inbox.closed; });
  EXPECT_TRUE(inbox.closed);
  EXPECT_TRUE(inbox.messages.empty());
}

TEST(Channel, MayBeEndedByWhatItTells) {
  boost::asio::io_context io;
  auto ends = make_ends(SOCK_STREAM);
  std::unique_ptr<Channel> channel;
  channel = std::make_unique<Channel>(
      io, std::move(ends.ours), Channel::Events{[&](std::string_view) { channel.reset(); }, {}});
  Channel other(io, std::move(ends.theirs), {});
  other.send(text("end"));
  other.send(text("unread"));
  run_until(io, [&] { return !channel; });
  EXPECT_EQ(channel, nullptr);
}

}  // namespace
}  // namespace weft::proxy
