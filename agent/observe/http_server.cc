#include "agent/observe/http_server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include <algorithm>
#include <array>
#include <list>
#include <optional>
#include <string_view>
#include <thread>

#include "mesh/base/text.h"

namespace weft::observe {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kHeaderLimit = 8192;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// A body that answers share: an exposition is megabytes, and 32 clients may be fetching it. Null:
// none.
struct SharedBody {
  using value_type = std::shared_ptr<const std::string>;
  class writer {
   public:
    using const_buffers_type = asio::const_buffer;
    template <bool is_request, class Fields>
    writer(const http::header<is_request, Fields>&, const value_type& value) : value_(value) {}
    void init(beast::error_code& error) { error = {}; }
    boost::optional<std::pair<const_buffers_type, bool>> get(beast::error_code& error) {
      error = {};
      if (!value_) return boost::none;
      return {{asio::buffer(*value_), false}};
    }

   private:
    const value_type& value_;
  };
};
using Response = http::response<SharedBody>;

struct Answer {
  http::status status = http::status::ok;
  std::shared_ptr<const std::string> text;
  const char* type = "text/plain; charset=utf-8";
};

Answer sentence(http::status status, std::string text) {
  return {status, std::make_shared<const std::string>(std::move(text) + "\n")};
}

Answer verdict(std::string why_not) {
  if (why_not.empty()) return sentence(http::status::ok, "ok");
  return sentence(http::status::service_unavailable, std::move(why_not));
}

Answer answer_to(http::verb method, std::string_view target, const HttpHandlers& handlers) {
  if (method != http::verb::get && method != http::verb::head)
    return sentence(http::status::method_not_allowed, "only GET and HEAD are served here");
  const auto path = target.substr(0, target.find('?'));
  if (path == "/metrics")
    return {http::status::ok, handlers.metrics(), "text/plain; version=0.0.4; charset=utf-8"};
  if (path == "/healthz") return verdict(handlers.unhealthy());
  if (path == "/readyz") return verdict(handlers.not_ready());
  return sentence(http::status::not_found, "/metrics, /healthz and /readyz are served here");
}

// What a request that is none deserves; nothing where the client merely went away or stalled.
std::optional<Answer> answer_to(beast::error_code error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return sentence(http::status::request_header_fields_too_large,
                    "the request's header is over 8 KB");
  if (error.category() != make_error_code(http::error::bad_method).category() ||
      error == http::error::end_of_stream || error == http::error::partial_message)
    return std::nullopt;
  return sentence(http::status::bad_request, "not an HTTP request: " + error.message());
}

Response response_of(const Answer& answer, unsigned version, bool with_body) {
  Response response(answer.status, version);
  response.set(http::field::server, "weftd");
  response.set(http::field::content_type, answer.type);
  response.set(http::field::cache_control, "no-store");
  if (answer.status == http::status::method_not_allowed)
    response.set(http::field::allow, "GET, HEAD");
  response.keep_alive(false);
  response.content_length(answer.text->size());
  if (with_body) response.body() = answer.text;
  return response;
}

absl::Status address_error(const std::string& address, const std::string& why) {
  return absl::InvalidArgumentError("--metrics " + address + ": " + why);
}

absl::StatusOr<tcp::endpoint> parse_address(const std::string& text) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return address_error(text, "must be ADDR:PORT");
  const auto port = base::parse_number<std::uint16_t>(std::string_view(text).substr(colon + 1));
  std::string host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  beast::error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (error || !port || address.is_v6() != bracketed)
    return address_error(text, "must be ADDR:PORT, with an IPv6 address in brackets");
  return tcp::endpoint(address, *port);
}

struct Session {
  beast::tcp_stream stream;
  SteadyClock::time_point started = SteadyClock::now();
  bool asked = false;  // its request is here, whole
};

}  // namespace

struct HttpServer::State {
  State(const HttpOptions& o, HttpHandlers h) : options(o), handlers(std::move(h)) {}

  HttpOptions options;
  HttpHandlers handlers;
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  asio::steady_timer room{io};  // cancelled when a session ends
  asio::steady_timer patience_with_the_last{io};
  // Oldest first; destroyed before io, whose frames only refer to them.
  std::list<Session> sessions;
  bool leaving = false;
  std::uint16_t port = 0;
  std::thread thread;

  absl::Status open() {
    const auto endpoint = parse_address(options.address);
    if (!endpoint.ok()) return endpoint.status();
    beast::error_code error;
    if (options.listener >= 0) {
      acceptor.assign(endpoint->protocol(), options.listener, error);
      if (!error && acceptor.local_endpoint(error) == *endpoint && !error) {
        port = endpoint->port();
        return absl::OkStatus();
      }
      acceptor.close(error);
      error = {};
    }
    acceptor.open(endpoint->protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error && endpoint->address().is_v6()) acceptor.set_option(asio::ip::v6_only(false), error);
    if (!error) acceptor.bind(*endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      return absl::ErrnoToStatus(
          error.value(), "--metrics " + options.address + ": cannot listen; give a free address");
    port = acceptor.local_endpoint().port();
    return absl::OkStatus();
  }

  // Stalled clients must not keep others out for as long as the timeout allows.
  asio::awaitable<void> make_room() {
    while (sessions.size() >= options.max_connections) {
      room.expires_at(patience_ends(first_to_go()));
      co_await room.async_wait(kAwait);
      if (sessions.size() < options.max_connections) co_return;
      if (auto& session = first_to_go(); SteadyClock::now() >= patience_ends(session))
        session.stream.close();
    }
  }

  SteadyClock::time_point patience_ends(const Session& session) const {
    return session.started + (session.asked ? options.patience : options.idle_patience);
  }
  Session& first_to_go() {
    return *std::min_element(
        sessions.begin(), sessions.end(),
        [this](const auto& a, const auto& b) { return patience_ends(a) < patience_ends(b); });
  }

  asio::awaitable<void> listen() {
    for (;;) {
      co_await make_room();
      auto [error, socket] = co_await acceptor.async_accept(kAwait);
      if (error && leaving) co_return;
      if (error) {  // no descriptors left, say: not a reason to spin
        room.expires_after(std::chrono::milliseconds(100));
        co_await room.async_wait(kAwait);
        continue;
      }
      const auto session =
          sessions.insert(sessions.end(), Session{beast::tcp_stream(std::move(socket))});
      asio::co_spawn(io, serve(*session), [this, session](std::exception_ptr) {
        sessions.erase(session);
        room.cancel();
        if (leaving && sessions.empty()) io.stop();
      });
    }
  }

  // Nobody is accepted any more; those who were have their answers first. A successor may have the
  // listening socket: what waits in its queue is the successor's.
  void leave() {
    leaving = true;
    beast::error_code ignored;
    acceptor.close(ignored);
    const bool asked = std::any_of(sessions.begin(), sessions.end(),
                                   [](const auto& session) { return session.asked; });
    patience_with_the_last.expires_after(asked ? options.patience : 10 * options.idle_patience);
    patience_with_the_last.async_wait([this](auto) { io.stop(); });
    // Behind one that is accepted already.
    asio::post(io, [this] {
      if (sessions.empty()) io.stop();
    });
  }

  asio::awaitable<void> serve(Session& session) {
    auto& stream = session.stream;
    beast::flat_buffer buffer(2 * kHeaderLimit);
    http::request_parser<http::empty_body> parser;
    parser.header_limit(kHeaderLimit);
    stream.expires_after(options.timeout);
    const auto [error, size] = co_await http::async_read_header(stream, buffer, parser, kAwait);
    session.asked = true;
    const auto& request = parser.get();
    const auto target = std::string_view(request.target().data(), request.target().size());
    const auto answer = error ? answer_to(error) : answer_to(request.method(), target, handlers);
    if (!answer) co_return;
    const bool with_body = error || request.method() != http::verb::head;
    const auto response = response_of(*answer, error ? 11 : request.version(), with_body);
    stream.expires_after(options.timeout);
    http::serializer<false, SharedBody, http::fields> serializer(response);
    const auto [failed, written] = co_await http::async_write(stream, serializer, kAwait);
    if (!failed) co_await see_off(stream);
  }

  // Closing with unread bytes would reset the connection and take the answer with it.
  asio::awaitable<void> see_off(beast::tcp_stream& stream) {
    beast::error_code ignored;
    stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream.expires_after(std::min(options.timeout, options.patience));
    std::array<char, 4096> scratch;
    for (std::size_t total = 0; total < 65536;) {
      const auto [error, size] = co_await stream.async_read_some(asio::buffer(scratch), kAwait);
      if (error) co_return;
      total += size;
    }
  }
};

absl::Status HttpServer::check_address(const std::string& address) {
  return parse_address(address).status();
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() {
  asio::post(state_->io, [this] { state_->leave(); });
  state_->thread.join();
}

int HttpServer::listener() const { return state_->acceptor.native_handle(); }

std::uint16_t HttpServer::port() const { return state_->port; }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::start(const HttpOptions& options,
                                                              HttpHandlers handlers) {
  auto state = std::make_unique<State>(options, std::move(handlers));
  if (auto status = state->open(); !status.ok()) return status;
  asio::co_spawn(state->io, state->listen(), [](std::exception_ptr) {});
  state->thread = std::thread([&io = state->io] { io.run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

}  // namespace weft::observe
