// Servers for tests of probes: on loopback, at a port of their own, on the test's io_context.
#pragma once

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "mesh/model/address.h"

namespace weft::health::test {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr auto kGuard = std::chrono::seconds(30);  // a test that hangs, never a measurement

// Runs what is ready until the condition holds.
inline void run_until(asio::io_context& io, const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + kGuard;
  while (!holds()) {
    io.restart();
    io.run_one_until(end);
    if (std::chrono::steady_clock::now() >= end) {
      ADD_FAILURE() << "hangs";
      return;
    }
  }
}

class Server {
 public:
  using Talk = std::function<asio::awaitable<void>(tcp::socket&)>;

  Server(asio::io_context& io, Talk talk, const std::string& address = "127.0.0.1")
      : state_(std::make_shared<State>(io, std::move(talk))) {
    const tcp::endpoint any(asio::ip::make_address(address), 0);
    state_->acceptor.open(any.protocol());
    state_->acceptor.bind(any);
    state_->acceptor.listen();
    asio::co_spawn(io, serve(state_), asio::detached);
  }
  ~Server() { state_->acceptor.close(); }

  std::uint16_t port() const { return state_->acceptor.local_endpoint().port(); }
  int connections() const { return state_->connections; }
  void set_talk(Talk talk) { state_->talk = std::move(talk); }

 private:
  struct State {
    State(asio::io_context& context, Talk t) : io(context), acceptor(context), talk(std::move(t)) {}
    asio::io_context& io;
    tcp::acceptor acceptor;
    Talk talk;
    int connections = 0;
  };

  static asio::awaitable<void> serve(std::shared_ptr<State> state) {
    while (true) {
      auto [error, socket] = co_await state->acceptor.async_accept(kAwait);
      if (error) co_return;
      ++state->connections;
      asio::co_spawn(state->io, talk_with(std::move(socket), state->talk), asio::detached);
    }
  }
  static asio::awaitable<void> talk_with(tcp::socket socket, Talk talk) { co_await talk(socket); }

  std::shared_ptr<State> state_;
};

inline asio::awaitable<void> wait_for_the_end(tcp::socket& socket) {
  std::array<char, 1024> chunk;
  while (true) {
    const auto [error, size] = co_await socket.async_read_some(asio::buffer(chunk), kAwait);
    if (error) co_return;
  }
}

// Bound and not listening: refused, and nobody else's as long as this lives.
class RefusedPort {
 public:
  explicit RefusedPort(asio::io_context& io) : socket_(io, {asio::ip::address_v4::loopback(), 0}) {}
  std::uint16_t port() const { return socket_.local_endpoint().port(); }

 private:
  tcp::socket socket_;
};

// Accepts and says nothing.
inline Server::Talk silent() {
  return [](tcp::socket& socket) { return wait_for_the_end(socket); };
}

inline asio::awaitable<void> hear_and_say(tcp::socket& socket, std::string answer, bool hang_up,
                                          std::string* heard) {
  std::string request;
  const auto [error, size] =
      co_await asio::async_read_until(socket, asio::dynamic_buffer(request), "\r\n\r\n", kAwait);
  if (error) co_return;
  if (heard) *heard = request;
  co_await asio::async_write(socket, asio::buffer(answer), kAwait);
  if (!hang_up) co_await wait_for_the_end(socket);
}

// Hears an HTTP request, says these bytes, and keeps the connection or not.
inline Server::Talk says(std::string answer, bool hang_up = false, std::string* heard = nullptr) {
  return [=](tcp::socket& socket) { return hear_and_say(socket, answer, hang_up, heard); };
}

// What a gRPC server answers to every call.
struct GrpcAnswer {
  std::string message;            // with its prefix; empty: only trailers
  std::string grpc_status = "0";  // empty: none
  std::string http_status = "200";
  std::uint32_t reset_with = NGHTTP2_NO_ERROR;  // else instead of an answer
};

inline std::string serving(char status) { return {'\0', '\0', '\0', '\0', 2, '\x08', status}; }

// A server of one connection by nghttp2.
class GrpcConnection {
 public:
  explicit GrpcConnection(GrpcAnswer answer) : answer_(std::move(answer)) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_server_new(&session_, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~GrpcConnection() { nghttp2_session_del(session_); }

  std::string receive(std::string_view bytes) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    EXPECT_GE(nghttp2_session_mem_recv(session_, data, bytes.size()), 0);
    std::string out;
    const std::uint8_t* piece = nullptr;
    for (ssize_t size; (size = nghttp2_session_mem_send(session_, &piece)) > 0;)
      out.append(reinterpret_cast<const char*>(piece), static_cast<std::size_t>(size));
    return out;
  }

  std::string body;  // of the request
  std::string headers;

 private:
  static int on_header(nghttp2_session*, const nghttp2_frame*, const std::uint8_t* name,
                       std::size_t name_length, const std::uint8_t* value, std::size_t length,
                       std::uint8_t, void* user) {
    auto& headers = static_cast<GrpcConnection*>(user)->headers;
    headers.append(reinterpret_cast<const char*>(name), name_length) += '=';
    headers.append(reinterpret_cast<const char*>(value), length) += '\n';
    return 0;
  }
  static int on_data(nghttp2_session*, std::uint8_t, std::int32_t, const std::uint8_t* data,
                     std::size_t length, void* user) {
    static_cast<GrpcConnection*>(user)->body.append(reinterpret_cast<const char*>(data), length);
    return 0;
  }
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->hd.stream_id && frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
      static_cast<GrpcConnection*>(user)->answer(frame->hd.stream_id);
    return 0;
  }
  static ssize_t on_read(nghttp2_session* session, std::int32_t stream, std::uint8_t* out,
                         std::size_t length, std::uint32_t* flags, nghttp2_data_source* source,
                         void*) {
    auto& self = *static_cast<GrpcConnection*>(source->ptr);
    const auto size = std::min(length, self.answer_.message.size() - self.sent_);
    std::memcpy(out, self.answer_.message.data() + self.sent_, size);
    self.sent_ += size;
    if (self.sent_ < self.answer_.message.size()) return static_cast<ssize_t>(size);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (!self.answer_.grpc_status.empty()) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      const auto trailer = pair("grpc-status", self.answer_.grpc_status);
      nghttp2_submit_trailer(session, stream, &trailer, 1);
    }
    return static_cast<ssize_t>(size);
  }
  static nghttp2_nv pair(const char* name, const std::string& value) {
    return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name)),
            reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), std::strlen(name),
            value.size(), NGHTTP2_NV_FLAG_NONE};
  }

  void answer(std::int32_t stream) {
    if (answer_.reset_with != NGHTTP2_NO_ERROR) {
      nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream, answer_.reset_with);
      return;
    }
    const std::string type = "application/grpc";
    std::vector<nghttp2_nv> fields{pair(":status", answer_.http_status),
                                   pair("content-type", type)};
    nghttp2_data_provider data{};
    data.source.ptr = this;
    data.read_callback = on_read;
    const bool trailers_only = answer_.message.empty();
    if (trailers_only && !answer_.grpc_status.empty())
      fields.push_back(pair("grpc-status", answer_.grpc_status));
    nghttp2_submit_response(session_, stream, fields.data(), fields.size(),
                            trailers_only ? nullptr : &data);
  }

  GrpcAnswer answer_;
  std::size_t sent_ = 0;
  nghttp2_session* session_ = nullptr;
};

inline asio::awaitable<void> speak_grpc(tcp::socket& socket, GrpcAnswer answer) {
  GrpcConnection connection(std::move(answer));
  std::array<char, 4096> chunk;
  while (true) {
    const auto [error, size] = co_await socket.async_read_some(asio::buffer(chunk), kAwait);
    if (error) co_return;
    const std::string out = connection.receive({chunk.data(), size});
    if (!out.empty()) co_await asio::async_write(socket, asio::buffer(out), kAwait);
  }
}

inline Server::Talk answers_grpc(GrpcAnswer answer) {
  return [=](tcp::socket& socket) { return speak_grpc(socket, answer); };
}

}  // namespace weft::health::test
