#include "agent/health/grpc_call.h"

#include <gtest/gtest.h>

#include <random>

#include "agent/health/test_servers.h"

namespace weft::health {
namespace {

using test::GrpcAnswer;
using test::GrpcConnection;
using test::serving;

// Client and server, with no socket between them; `at_once` bytes at a time.
Result between(GrpcCall& call, GrpcConnection& server, std::size_t at_once = 100'000) {
  for (std::string to_server; !(to_server = call.to_send()).empty();) {
    const std::string answer = server.receive(to_server);
    for (std::size_t at = 0; at < answer.size(); at += at_once)
      call.receive(std::string_view(answer).substr(at, at_once));
  }
  return call.result();
}

Result asked(GrpcAnswer answer, std::size_t at_once = 100'000) {
  GrpcCall call("10.1.2.3:80", "shop.Cart");
  GrpcConnection server(std::move(answer));
  const auto result = between(call, server, at_once);
  EXPECT_TRUE(call.done());
  return result;
}

TEST(GrpcCall, AsksForTheServiceByName) {
  GrpcCall call("10.1.2.3:80", "shop.Cart");
  GrpcConnection server({serving(1)});
  EXPECT_EQ(between(call, server), (Result{true, "gRPC SERVING"}));
  EXPECT_EQ(server.body, std::string("\0\0\0\0\x0b\x0a\x09shop.Cart", 16));
  EXPECT_EQ(server.headers,
            ":method=POST\n:scheme=http\n:path=/grpc.health.v1.Health/Check\n"
            ":authority=10.1.2.3:80\nte=trailers\ncontent-type=application/grpc\n"
            "user-agent=weftd/" WEFT_VERSION "\n");
}

TEST(GrpcCall, OfTheWholeServerTheMessageIsEmpty) {
  GrpcCall call("10.1.2.3:80", "");
  GrpcConnection server({serving(1)});
  EXPECT_TRUE(between(call, server).ok);
  EXPECT_EQ(server.body, std::string(5, '\0'));
}

TEST(GrpcCall, ALongNameHasALongLength) {
  GrpcCall call("10.1.2.3:80", std::string(300, 'x'));
  GrpcConnection server({serving(1)});
  EXPECT_TRUE(between(call, server).ok);
  EXPECT_EQ(server.body.substr(0, 8), std::string("\0\0\0\x01\x2f\x0a\xac\x02", 8));
}

TEST(GrpcCall, OnlyServingIsHealthy) {
  EXPECT_EQ(asked({serving(0)}), (Result{false, "gRPC UNKNOWN"}));
  EXPECT_EQ(asked({serving(1)}), (Result{true, "gRPC SERVING"}));
  EXPECT_EQ(asked({serving(2)}), (Result{false, "gRPC NOT_SERVING"}));
  EXPECT_EQ(asked({serving(3)}), (Result{false, "gRPC SERVICE_UNKNOWN"}));
  EXPECT_EQ(asked({serving(9)}), (Result{false, "gRPC 9"}));
  EXPECT_EQ(asked({std::string(5, '\0')}), (Result{false, "gRPC UNKNOWN"}));
}

TEST(GrpcCall, AnErrorIsNamed) {
  EXPECT_EQ(asked({"", "12"}), (Result{false, "gRPC UNIMPLEMENTED"}));
  EXPECT_EQ(asked({"", "5"}), (Result{false, "gRPC NOT_FOUND"}));
  EXPECT_EQ(asked({serving(1), "14"}), (Result{false, "gRPC UNAVAILABLE"}));
  EXPECT_EQ(asked({"", "99"}), (Result{false, "gRPC 99"}));
  EXPECT_EQ(asked({"", "x"}), (Result{false, "gRPC status that is no number"}));
  EXPECT_EQ(asked({"", "", "503"}), (Result{false, "HTTP 503"}));
  EXPECT_EQ(asked({serving(1), ""}), (Result{false, "gRPC answer without a status"}));
  EXPECT_EQ(asked({"", "0"}), (Result{false, "gRPC answer that is no HealthCheckResponse"}));
}

TEST(GrpcCall, AResetIsNamed) {
  GrpcAnswer answer;
  answer.reset_with = NGHTTP2_REFUSED_STREAM;
  EXPECT_EQ(asked(answer), (Result{false, "gRPC call reset: REFUSED_STREAM"}));
}

TEST(GrpcCall, BytesMayComeOneByOne) {
  EXPECT_EQ(asked({serving(1)}, 1), (Result{true, "gRPC SERVING"}));
}

TEST(GrpcCall, FieldsOfALaterVersionArePassedOver) {
  const std::string more("\0\0\0\0\x17\x12\x03xyz\x08\x01\x1d\1\2\3\4\x21\1\2\3\4\5\6\7\x08\x28\7",
                         28);
  ASSERT_EQ(more.size(), 5u + 0x17);
  EXPECT_EQ(asked({more}), (Result{true, "gRPC SERVING"}));
}

TEST(GrpcCall, AMessageThatIsNoneIsSaid) {
  const Result none{false, "gRPC answer that is no HealthCheckResponse"};
  EXPECT_EQ(asked({std::string("\1\0\0\0\x02\x08\x01", 7)}), none) << "compressed";
  EXPECT_EQ(asked({std::string("\0\0\0\0\x09\x08\x01", 7)}), none) << "cut";
  EXPECT_EQ(asked({std::string("\0\0\0\0\x01\x08", 6)}), none) << "no value";
  EXPECT_EQ(asked({std::string("\0\0\0\0\x02\x12\x7f", 7)}), none) << "longer than itself";
  EXPECT_EQ(asked({std::string("\0\0\0\0\x02\x0b\x01", 7)}), none) << "a group";
  EXPECT_EQ(asked({std::string(8000, '\0')}), (Result{false, "gRPC answer over 4 KiB"}));
}

TEST(GrpcCall, AnotherProtocolIsNotHttp2) {
  GrpcCall call("10.1.2.3:80", "");
  call.to_send();
  call.receive("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
  call.to_send();
  EXPECT_TRUE(call.done());
  EXPECT_EQ(call.result(), (Result{false, "not HTTP/2"}));
}

TEST(GrpcCall, BytesAtRandomNeitherCrashNorPass) {
  std::mt19937 random(5);
  for (int i = 0; i < 2000; ++i) {
    GrpcCall call("10.1.2.3:80", "");
    GrpcConnection server({serving(2)});
    std::string answer = server.receive(call.to_send());
    for (int change = 0; change < 4; ++change)
      answer[random() % answer.size()] = static_cast<char>(random());
    // One such byte may well say SERVING: only that it ends without harm is looked at.
    for (int piece = 0; piece < 100 && !call.done(); ++piece) {
      call.receive(answer);
      call.to_send();
    }
    call.result();
  }
}

// A server that talks on and on of other things is left.
TEST(GrpcCall, AnEndlessAnswerEnds) {
  GrpcCall call("10.1.2.3:80", "");
  GrpcConnection server({serving(1)});
  call.to_send();
  const std::string ping("\0\0\x08\x06\0\0\0\0\0ABCDEFGH", 17);
  call.receive(server.receive(""));
  for (int i = 0; i < 10'000 && !call.done(); ++i) {
    call.receive(ping);
    call.to_send();
  }
  EXPECT_EQ(call.result(), (Result{false, "gRPC answer over 64 KiB"}));
}

}  // namespace
}  // namespace weft::health
