#include "agent/health/probe.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <exception>
#include <memory>

#include "agent/health/grpc_call.h"

namespace weft::health {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace errc = boost::system::errc;
using asio::ip::tcp;
using beast::error_code;
using SteadyClock = std::chrono::steady_clock;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kHeaderLimit = 16 * 1024;
constexpr int kInterim = 5;  // 1xx answers before the real one; as many as Go's client reads
// A deadline noticed so late: this thread was held up, and the answer may lie in the socket unread.
constexpr auto kHeldUp = std::chrono::milliseconds(250);

tcp::endpoint endpoint_of(const Question& question) {
  const auto port = question.check.port ? question.check.port : question.port;
  const auto& bytes = question.address.bytes;
  if (question.address.family() == model::Family::kIpv4)
    return {asio::ip::address_v4({bytes[12], bytes[13], bytes[14], bytes[15]}), port};
  return {asio::ip::address_v6(bytes), port};
}

std::string authority_of(const Question& question) {
  const auto endpoint = endpoint_of(question);
  const std::string host = question.address.to_text(), port = std::to_string(endpoint.port());
  return endpoint.address().is_v6() ? "[" + host + "]:" + port : host + ":" + port;
}

// An annotation's text can hold a line break; in a request it would begin another header.
std::string target_of(std::string_view path) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string target = path.starts_with('/') ? "" : "/";
  for (const unsigned char byte : path) {
    if (byte > 0x20 && byte < 0x7f)
      target += static_cast<char>(byte);
    else
      target += {'%', kHex[byte >> 4], kHex[byte & 15]};
  }
  return target;
}

std::chrono::milliseconds timeout_of(const model::HealthCheck& check) {
  return check.timeout.count() > 0 ? check.timeout : model::HealthCheck{}.timeout;
}

std::string in_words(std::chrono::milliseconds time) {
  const auto ms = time.count();
  return ms % 1000 ? std::to_string(ms) + "ms" : std::to_string(ms / 1000) + "s";
}

// Errors of this node's own resources, whenever they come.
bool could_not_ask(error_code error) {
  for (const auto own :
       {errc::too_many_files_open, errc::too_many_files_open_in_system, errc::no_buffer_space,
        errc::not_enough_memory, errc::address_not_available, errc::resource_unavailable_try_again})
    if (error == own) return true;
  return false;
}

struct Probe {
  Question question;
  beast::tcp_stream stream;
  SteadyClock::time_point deadline;

  Probe(asio::any_io_executor executor, Question asked)
      : question(std::move(asked)),
        stream(std::move(executor)),
        deadline(SteadyClock::now() + timeout_of(question.check)) {
    stream.expires_at(deadline);  // of everything below together
  }

  static Result not_asked(error_code error) {
    return {false, "this node cannot ask: " + error.message(), false};
  }

  Result failure(error_code error) const {
    if (error == beast::error::timeout) {
      const bool held_up = SteadyClock::now() > deadline + kHeldUp;
      if (held_up) return {false, "this node was too busy to look", false};
      return {false, "no answer within " + in_words(timeout_of(question.check))};
    }
    if (could_not_ask(error)) return not_asked(error);
    if (error == http::error::end_of_stream || error == http::error::partial_message ||
        error == asio::error::eof)
      return {false, "closed without an answer"};
    if (error == http::error::header_limit || error == http::error::buffer_overflow)
      return {false, "HTTP header over 16 KiB"};
    if (error.category() == make_error_code(http::error::bad_method).category())
      return {false, "not HTTP: " + error.message()};
    std::string text = error.message();
    if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] += 'a' - 'A';
    return {false, text};
  }

  // What connect() itself returns it knows before any packet is sent: no route, a prohibited or
  // unreachable one, a rule that forbids the call. It is this node's alone, whatever the number.
  // The same numbers as the outcome of a connect under way were said of a SYN that was sent, by
  // ICMP from afar or for want of a neighbour: the endpoint's. A route that goes in between is
  // silence. async_connect() tells both in one way, hence not it.
  error_code begin_to_connect() {
    auto& socket = stream.socket();
    const auto endpoint = endpoint_of(question);
    error_code error;
    if (socket.open(endpoint.protocol(), error)) return error;
    if (socket.native_non_blocking(true, error)) return error;
    if (::connect(socket.native_handle(), endpoint.data(),
                  static_cast<socklen_t>(endpoint.size())) == 0 ||
        errno == EINPROGRESS)
      return {};
    return {errno, boost::system::system_category()};
  }

  asio::awaitable<error_code> connected() {
    auto& socket = stream.socket();
    // The stream's deadline is for its own operations. The timer's handler can be on its way when
    // this is over, and finds nothing then.
    auto waiting = std::make_shared<tcp::socket*>(&socket);
    asio::steady_timer timer(stream.get_executor(), deadline);
    timer.async_wait([late = std::weak_ptr(waiting)](error_code) {
      error_code ignored;
      if (const auto still = late.lock()) (*still)->cancel(ignored);
    });
    const auto [stopped] = co_await socket.async_wait(tcp::socket::wait_write, kAwait);
    waiting.reset();
    if (stopped == asio::error::operation_aborted) co_return beast::error::timeout;
    if (stopped) co_return stopped;
    int found = 0;
    socklen_t size = sizeof found;
    getsockopt(socket.native_handle(), SOL_SOCKET, SO_ERROR, &found, &size);
    co_return error_code(found, boost::system::system_category());
  }

  asio::awaitable<Result> ask() {
    if (const auto own = begin_to_connect()) co_return not_asked(own);
    const auto unconnected = co_await connected();
    if (unconnected) co_return failure(unconnected);
    if (question.check.kind == model::HealthCheck::Kind::kTcp) co_return Result{true, "connected"};
    // Not in one ?: expression, which GCC 12 compiles into a double free.
    Result result;
    if (question.check.kind == model::HealthCheck::Kind::kHttp)
      result = co_await ask_http();
    else
      result = co_await ask_grpc();
    co_return result;
  }

  asio::awaitable<Result> ask_http() {
    http::request<http::empty_body> request(http::verb::get, target_of(question.check.path), 11);
    request.set(http::field::host, authority_of(question));
    request.set(http::field::user_agent, "weftd/" WEFT_VERSION);
    request.set(http::field::accept, "*/*");
    request.set(http::field::connection, "close");
    const auto [unsent, sent] = co_await http::async_write(stream, request, kAwait);
    if (unsent) co_return failure(unsent);
    beast::flat_buffer buffer(kHeaderLimit);
    for (int answers = 0; answers <= kInterim; ++answers) {
      http::response_parser<http::empty_body> parser;
      parser.header_limit(kHeaderLimit);
      parser.body_limit(boost::none);  // it is not read, whatever its length
      const auto [none, size] = co_await http::async_read_header(stream, buffer, parser, kAwait);
      if (none) co_return failure(none);
      const auto status = parser.get().result_int();
      const bool interim = status >= 100 && status < 200 && status != 101;
      if (!interim)
        co_return Result{status / 100 == 2 || status / 100 == 3, "HTTP " + std::to_string(status)};
    }
    co_return Result{false, "HTTP answers that are not final"};
  }

  asio::awaitable<Result> ask_grpc() {
    GrpcCall call(authority_of(question), question.check.service);
    std::array<char, 4096> chunk;
    while (!call.done()) {
      const std::string bytes = call.to_send();
      if (!bytes.empty()) {
        const auto [unsent, sent] = co_await asio::async_write(stream, asio::buffer(bytes), kAwait);
        if (unsent) co_return failure(unsent);
      }
      if (call.done()) break;
      const auto [none, size] = co_await stream.async_read_some(asio::buffer(chunk), kAwait);
      if (none) co_return failure(none);
      call.receive({chunk.data(), size});
    }
    co_return call.result();
  }
};

asio::awaitable<Result> run(Question question) {
  const auto executor = co_await asio::this_coro::executor;
  Probe probe(executor, std::move(question));
  const Result result = co_await probe.ask();
  co_return result;
}

}  // namespace

void probe(asio::io_context& io, Question question, std::function<void(Result)> done) {
  auto finish = [done = std::move(done)](std::exception_ptr thrown, Result result) {
    // Nothing above throws but for want of memory.
    if (thrown) result = {false, "this node cannot ask", false};
    done(std::move(result));
  };
  asio::co_spawn(io, run(std::move(question)), std::move(finish));
}

}  // namespace weft::health
