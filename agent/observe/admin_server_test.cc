#include "agent/observe/admin_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <thread>

#include "mesh/base/fd.h"

namespace weft::observe {
namespace {

base::Fd dial(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  base::Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address)) return base::Fd();
  const timeval limit{60, 0};  // a server that hangs fails the test and does not hang it
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return fd;
}

// Everything until the server closes; nothing where it resets or hangs.
std::optional<std::string> read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t size = recv(fd, buffer, sizeof buffer, 0);
    if (size < 0) return std::nullopt;
    if (size == 0) return text;
    text.append(buffer, size);
  }
}

struct AdminServerTest : testing::Test {
  std::string run_dir;
  Board board;
  AdminHandlers handlers{.audit = [](auto done) { done(std::vector<std::string>{"a differs"}); },
                         .confirm = [](auto done) { done(absl::OkStatus()); }};
  AdminOptions options;
  std::unique_ptr<AdminServer> server;

  AdminServerTest() {
    char name[] = "/tmp/weft-admin-XXXXXX";
    run_dir = mkdtemp(name);
    chmod(run_dir.c_str(), 0755);
    options.run_dir = run_dir;
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->node = "n1";
    board.publish(snapshot);
  }
  ~AdminServerTest() override {
    server.reset();
    std::filesystem::remove_all(run_dir);
  }
  std::string path() const { return AdminServer::socket_path(run_dir); }
  void start() {
    auto started = AdminServer::start(options, board, handlers);
    ASSERT_TRUE(started.ok()) << started.status();
    server = *std::move(started);
  }
  std::string ask(const std::string& request) {
    const auto fd = dial(path());
    if (!fd) return "(nobody listens)";
    send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
    return read_all(fd.get()).value_or("(reset or timed out)");
  }
  std::string command(const std::string& name) {
    return ask(R"({"version":1,"command":")" + name + "\"}\n");
  }
};

TEST_F(AdminServerTest, AnswersFromTheSnapshot) {
  start();
  const auto reply = command("status");
  EXPECT_TRUE(reply.starts_with("{")) << reply;
  EXPECT_NE(reply.find("\"node\":\"n1\""), std::string::npos) << reply;
  EXPECT_NE(reply.find("\"pid\":" + std::to_string(getpid())), std::string::npos) << reply;
}

TEST_F(AdminServerTest, ARequestMayEndWithTheStream) {
  start();
  const auto fd = dial(path());
  const std::string request = R"({"version":1,"command":"status"})";
  send(fd.get(), request.data(), request.size(), 0);
  shutdown(fd.get(), SHUT_WR);
  EXPECT_NE(read_all(fd.get()).value_or("").find("\"ok\":true"), std::string::npos);
}

TEST_F(AdminServerTest, AuditAndConfirmAreAnsweredByTheControlThread) {
  // Answers come from another thread, as they do in the agent.
  std::thread control;
  handlers.audit = [&](AdminHandlers::AuditDone done) {
    control = std::thread([done] { done(std::vector<std::string>{"slot 3 differs"}); });
  };
  start();
  const auto audit = command("audit");
  control.join();
  EXPECT_EQ(audit,
            "{\"ok\":true,\"result\":{\"differences\":[\"slot 3 differs\"]},\"version\":1}\n");
  EXPECT_EQ(command("confirm"),
            getuid() == 0
                ? "{\"ok\":true,\"result\":{\"applied\":true},\"version\":1}\n"
                : "{\"error\":\"this request is for root only\",\"ok\":false,\"version\":1}\n");
}

TEST_F(AdminServerTest, ErrorsOfTheControlThreadArePassedOn) {
  handlers.audit = [](auto done) { done(absl::UnavailableError("cannot read weft_names")); };
  start();
  EXPECT_EQ(command("audit"),
            "{\"error\":\"cannot read weft_names\",\"ok\":false,\"version\":1}\n");
}

TEST_F(AdminServerTest, AHangingControlThreadIsSaid) {
  AdminHandlers::AuditDone late;
  handlers.audit = [&](AdminHandlers::AuditDone done) { late = done; };
  options.timeout = std::chrono::milliseconds(50);
  start();
  EXPECT_NE(command("audit").find("did not answer in time"), std::string::npos);
  late(std::vector<std::string>{});  // nobody waits any more
  server.reset();
  late(std::vector<std::string>{});  // not even the server
}

TEST_F(AdminServerTest, OthersThanRootMayNotConfirm) {
  if (getuid() != 0) FAIL() << "needs root: the test becomes another user";
  bool called = false;
  handlers.confirm = [&](auto done) {
    called = true;
    done(absl::OkStatus());
  };
  start();
  ASSERT_EQ(chmod(path().c_str(), 0666), 0);
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  const base::Fd reader(pipe_fds[0]);
  base::Fd writer(pipe_fds[1]);
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(65534) || setuid(65534)) _exit(1);
    const auto reply = command("confirm");
    _exit(write(writer.get(), reply.data(), reply.size()) < 0);
  }
  writer = base::Fd();
  char buffer[1024];
  const ssize_t size = read(reader.get(), buffer, sizeof buffer);
  int status = -1;
  waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(std::string(buffer, size),
            "{\"error\":\"this request is for root only\",\"ok\":false,\"version\":1}\n");
  EXPECT_FALSE(called);
}

TEST_F(AdminServerTest, TheSocketIsForItsOwnerAndGroup) {
  start();
  struct stat info;
  ASSERT_EQ(stat(path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0660u);
}

TEST_F(AdminServerTest, GarbageGetsAnErrorAndAClose) {
  start();
  EXPECT_NE(ask("GET / HTTP/1.1\r\n\r\n").find("not a JSON object"), std::string::npos);
  EXPECT_NE(ask("\n").find("\"ok\":false"), std::string::npos);
  EXPECT_NE(command("status").find("\"ok\":true"), std::string::npos);
}

TEST_F(AdminServerTest, OverlongRequestsGetAnErrorAndAClose) {
  start();
  EXPECT_NE(ask(std::string(100000, '[')).find("longer than 65536 bytes"), std::string::npos);
}

TEST_F(AdminServerTest, AStalledClientIsGivenUp) {
  options.timeout = std::chrono::milliseconds(50);
  start();
  const auto fd = dial(path());
  send(fd.get(), "{", 1, 0);
  EXPECT_EQ(read_all(fd.get()), "");
}

TEST_F(AdminServerTest, ClientsBeyondTheLimitWaitForTheirTurn) {
  options.max_clients = 2;
  options.timeout = std::chrono::milliseconds(50);
  start();
  std::vector<base::Fd> stalled;
  for (int i = 0; i < 6; ++i) stalled.push_back(dial(path()));
  EXPECT_NE(command("status").find("\"ok\":true"), std::string::npos);
}

TEST_F(AdminServerTest, ADeadAgentsSocketIsReplaced) {
  const base::Fd dead(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path().copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  start();
  EXPECT_NE(command("status").find("\"ok\":true"), std::string::npos);
}

TEST_F(AdminServerTest, ASecondAgentIsRefusedAndHarmsNothing) {
  start();
  const auto second = AdminServer::start(options, board, handlers);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(std::string(second.status().message()),
            "another weftd (pid " + std::to_string(getpid()) + ") runs with this --run-dir (" +
                run_dir + ")");
  EXPECT_NE(command("status").find("\"ok\":true"), std::string::npos);
}

TEST_F(AdminServerTest, LeavesNoSocketBehind) {
  start();
  server.reset();
  EXPECT_FALSE(std::filesystem::exists(path()));
  start();
  EXPECT_NE(command("status").find("\"ok\":true"), std::string::npos);
}

TEST_F(AdminServerTest, ErrorsNameTheFlag) {
  options.run_dir = run_dir + "/" + std::string(120, 'x');
  auto status = AdminServer::start(options, board, handlers).status();
  EXPECT_NE(std::string(status.message()).find("--run-dir"), std::string::npos) << status;
  options.run_dir = "/proc/nowhere";
  status = AdminServer::start(options, board, handlers).status();
  EXPECT_NE(std::string(status.message()).find("--run-dir"), std::string::npos) << status;
}

}  // namespace
}  // namespace weft::observe
