// Closing connections to endpoints that go: whose sockets are, and above all whose are not.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "agent/kernel/close.h"
#include "agent/kernel/own_socket.h"
#include "tests/bpf/caller.h"

namespace weft::tests {
namespace {

const std::string kService = "10.96.0.1";

class Close : public testing::Test {
 protected:
  void SetUp() override {
    node_.start();
    caller_.emplace(node_);
    here_ = base::Fd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(here_);
  }
  void TearDown() override { caller_.reset(); }

  const compile::PlacedEndpoint& placed(const std::string& address) {
    const auto* service = node_.placed().services.find({"default", "web"});
    for (const auto& endpoint : (*service)->ports[0].endpoints)
      if (endpoint.address.to_text() == address) return endpoint;
    throw std::out_of_range(address + " is no endpoint");
  }
  weft_endpoint_state& state(const std::string& address) {
    return node_.maps().endpoint_states.at(placed(address).id);
  }
  kernel::ClosingTarget target(const std::string& address) {
    return {placed(address).id, state(address).incarnation};
  }

  kernel::Closed close(const std::vector<kernel::ClosingTarget>& targets,
                       const std::vector<weft_frontend_key>& own = {}) {
    const int namespaces[] = {here_.get()};
    const auto closed = kernel::close_connections(node_.pins(), targets, own, namespaces);
    EXPECT_TRUE(closed.ok()) << closed.status();
    return closed.ok() ? *closed : kernel::Closed{};
  }

  // What a reader of the socket meets now: 0: nothing, it is open.
  static int error_of(const base::Fd& socket) {
    char byte;
    return recv(socket.get(), &byte, 1, MSG_DONTWAIT) < 0 && errno != EAGAIN ? errno : 0;
  }

  KernelNode node_;
  std::optional<Caller> caller_;
  base::Fd here_;
};

TEST_F(Close, EndsTheConnectionsOfOneEndpointAndNobodyElses) {
  const auto one = listen_on("127.0.0.1"), two = listen_on("127.0.0.2");
  node_.apply(make_mesh({make_service("web", {kService}, {"127.0.0.1", "127.0.0.2"})}));
  std::vector<base::Fd> sockets(6);
  for (auto& socket : sockets) ASSERT_EQ(dial(kService, &socket), 0);
  base::Fd direct;
  ASSERT_EQ(dial("127.0.0.2", &direct, 8080), 0) << "to the endpoint, but by no service";
  ASSERT_EQ(state("127.0.0.2").active, 3u);

  EXPECT_EQ(close({target("127.0.0.2")}).sockets, std::vector<std::uint32_t>{3});

  int open = 0, aborted = 0;
  for (const auto& socket : sockets) (error_of(socket) == ECONNABORTED ? aborted : open) += 1;
  EXPECT_EQ(open, 3);
  EXPECT_EQ(aborted, 3);
  EXPECT_EQ(error_of(direct), 0);
  EXPECT_EQ(state("127.0.0.1").active, 3u);
  EXPECT_EQ(state("127.0.0.2").active, 0u) << "its reservations are released as by any close";
  EXPECT_EQ(state("127.0.0.2").failed, 0u) << "and are nobody's failure";
  EXPECT_EQ(close({target("127.0.0.2")}).sockets, std::vector<std::uint32_t>{0});
}

TEST_F(Close, TellsThePeerByReset) {
  const auto listener = listen_on("127.0.0.1");
  node_.apply(make_mesh({make_service("web", {kService}, {"127.0.0.1"})}));
  base::Fd socket;
  ASSERT_EQ(dial(kService, &socket), 0);
  const auto accepted = accept_one(listener);
  close({target("127.0.0.1")});
  EXPECT_EQ(error_of(accepted), ECONNRESET);
}

TEST_F(Close, SparesTheEndpointThatHasTheNumberNow) {
  const auto listener = listen_on("127.0.0.1");
  node_.apply(make_mesh({make_service("web", {kService}, {"127.0.0.1"})}));
  base::Fd socket;
  ASSERT_EQ(dial(kService, &socket), 0);
  auto other = target("127.0.0.1");
  --other.incarnation;
  EXPECT_EQ(close({other}).sockets, std::vector<std::uint32_t>{0});
  EXPECT_EQ(error_of(socket), 0);
}

TEST_F(Close, FindsConnectionsThatOutlivedTheirEndpoint) {
  const auto listener = listen_on("127.0.0.1");
  node_.apply(make_mesh({make_service("web", {kService}, {"127.0.0.1"})}));
  base::Fd socket;
  ASSERT_EQ(dial(kService, &socket), 0);
  const auto gone = target("127.0.0.1");
  node_.apply(make_mesh({}));
  EXPECT_EQ(close({gone}).sockets, std::vector<std::uint32_t>{1});
  EXPECT_EQ(error_of(socket), ECONNABORTED);
}

TEST_F(Close, EndsAConnectThatIsNotAnsweredYet) {
  const BlackHole hole("127.0.0.1");
  node_.apply(make_mesh({make_service("web", {kService}, {"127.0.0.1"})}));
  base::Fd socket;
  ASSERT_EQ(dial_now(kService, socket), EINPROGRESS);
  EXPECT_EQ(close({target("127.0.0.1")}).sockets, std::vector<std::uint32_t>{1});
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  EXPECT_EQ(error, ECONNABORTED);
  EXPECT_EQ(state("127.0.0.1").active, 0u);
  EXPECT_EQ(state("127.0.0.1").failed, 0u);
}

TEST_F(Close, SparesASocketThatHasConnectedElsewhereSince) {
  const auto one = listen_on("127.0.0.1"), two = listen_on("127.0.0.2");
  node_.apply(make_mesh({make_service("web", {kService}, {"127.0.0.1"})}));
  base::Fd socket;
  ASSERT_EQ(dial(kService, &socket), 0);
  sockaddr_in nobody{};
  nobody.sin_family = AF_UNSPEC;
  ASSERT_EQ(connect(socket.get(), reinterpret_cast<sockaddr*>(&nobody), sizeof nobody), 0);
  sockaddr_in direct{};
  direct.sin_family = AF_INET;
  direct.sin_port = htons(8080);
  inet_pton(AF_INET, "127.0.0.2", &direct.sin_addr);
  ASSERT_EQ(connect(socket.get(), reinterpret_cast<sockaddr*>(&direct), sizeof direct), 0);
  EXPECT_EQ(close({target("127.0.0.1")}).sockets, std::vector<std::uint32_t>{0});
  EXPECT_EQ(error_of(socket), 0);
}

TEST_F(Close, ConnectedUdpSocketsAreToldOnce) {
  auto made = make_service("web", {kService}, {"127.0.0.1"});
  made.ports[0].protocol = model::Protocol::kUdp;
  node_.apply(make_mesh({made}));
  sockaddr_in service{};
  service.sin_family = AF_INET;
  service.sin_port = htons(80);
  inet_pton(AF_INET, kService.c_str(), &service.sin_addr);
  const base::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(socket.get(), reinterpret_cast<sockaddr*>(&service), sizeof service), 0);
  EXPECT_EQ(close({target("127.0.0.1")}).sockets, std::vector<std::uint32_t>{1});
  EXPECT_EQ(error_of(socket), ECONNABORTED);
  EXPECT_EQ(send(socket.get(), "x", 1, 0), -1);
  EXPECT_EQ(errno, EDESTADDRREQ) << "it is connected to nobody";
  EXPECT_EQ(connect(socket.get(), reinterpret_cast<sockaddr*>(&service), sizeof service), 0)
      << "and may connect again";
}

TEST_F(Close, TheProxysOwnGoByAddress) {
  const auto one = listen_on("127.0.0.1"), two = listen_on("127.0.0.2");
  node_.apply(make_mesh({make_service("web", {kService}, {"127.0.0.1"})}));
  const base::Fd marks(bpf_obj_get(node_.pins().map("weft_own_sockets").c_str()));
  std::vector<base::Fd> own(2);
  for (int i = 0; i < 2; ++i) {
    own[i] = base::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(kernel::mark_own_socket(marks.get(), own[i].get()).ok());
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(8080);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i);
    ASSERT_EQ(connect(own[i].get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }
  base::Fd other;
  ASSERT_EQ(dial("127.0.0.2", &other, 8080), 0) << "somebody else's, to the same address";
  const weft_frontend_key key{compile::to_abi(*model::Address::parse("127.0.0.2")), htons(8080),
                              IPPROTO_TCP, 0};
  EXPECT_EQ(close({}, {key}).own, 1u);
  EXPECT_EQ(error_of(own[0]), 0);
  EXPECT_EQ(error_of(own[1]), ECONNABORTED);
  EXPECT_EQ(error_of(other), 0);
}

TEST_F(Close, WalksTheNamespacesThatItIsGivenAndNoOther) {
  const auto listener = listen_on("127.0.0.1");
  node_.apply(make_mesh({make_service("web", {kService}, {"127.0.0.1"})}));
  base::Fd socket;
  ASSERT_EQ(dial(kService, &socket), 0);
  const kernel::ClosingTarget targets[] = {target("127.0.0.1")};
  const int elsewhere[] = {caller_->home()};
  const auto closed = kernel::close_connections(node_.pins(), targets, {}, elsewhere);
  ASSERT_TRUE(closed.ok()) << closed.status();
  EXPECT_EQ(closed->sockets, std::vector<std::uint32_t>{0});
  EXPECT_EQ(error_of(socket), 0);
}

TEST_F(Close, OneNamespaceThatCannotBeEnteredKeepsNoOtherFromBeingWalked) {
  const auto listener = listen_on("127.0.0.1");
  node_.apply(make_mesh({make_service("web", {kService}, {"127.0.0.1"})}));
  base::Fd socket;
  ASSERT_EQ(dial(kService, &socket), 0);
  const kernel::ClosingTarget targets[] = {target("127.0.0.1")};
  const int namespaces[] = {listener.get(), here_.get()};
  EXPECT_FALSE(kernel::close_connections(node_.pins(), targets, {}, namespaces).ok());
  EXPECT_EQ(error_of(socket), ECONNABORTED);
}

TEST_F(Close, IsAFeatureOfThisKernel) {
  const auto feature = kernel::probe_sock_destroy();
  EXPECT_TRUE(feature.enabled) << feature.reason;
}

}  // namespace
}  // namespace weft::tests
