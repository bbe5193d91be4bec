#include "control_plane/sources/kubernetes/http_client.h"

#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>

#include "mesh/base/text.h"

namespace weft::sources::kubernetes {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr auto kConnectTime = std::chrono::seconds(10);
constexpr auto kHeaderTime = std::chrono::seconds(15);
constexpr std::size_t kChunk = 64 * 1024;

// A peer that vanished without a word is noticed within a minute, though a watch may be silent for
// long.
void keep_alive(tcp::socket& socket) {
  const int fd = socket.native_handle();
  const auto set = [fd](int level, int option, int value) {
    setsockopt(fd, level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 15);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
  set(IPPROTO_TCP, TCP_NODELAY, 1);
}

absl::Status material(const char* what, const std::string& origin,
                      const boost::system::error_code& error) {
  return absl::InvalidArgumentError(origin + ": the " + what +
                                    " cannot be used: " + error.message());
}

bool is_address(const std::string& host) {
  boost::system::error_code error;
  asio::ip::make_address(host, error);
  return !error;
}

}  // namespace

struct HttpClient::State {
  explicit State(asio::io_context& context) : io(context), resolver(context) {}

  asio::io_context& io;
  tcp::resolver resolver;
  Access access;
  std::optional<asio::ssl::context> tls;
  std::optional<beast::tcp_stream> plain;
  std::optional<TlsStream> secure;
  beast::flat_buffer buffer;
  bool closed = false;

  bool connected() const { return plain || secure; }
  beast::tcp_stream& lowest() { return secure ? secure->next_layer() : *plain; }
  std::string where() const { return access.host + ":" + std::to_string(access.port); }

  void drop() {
    if (connected()) lowest().close();
    plain.reset();
    secure.reset();
    buffer.clear();
  }

  // The old one stays in force where the new one cannot be made.
  absl::Status set_access(const Access& fresh) {
    std::optional<asio::ssl::context> context;
    if (auto status = make_context(fresh, context); !status.ok()) return status;
    drop();
    access = fresh;
    tls = std::move(context);
    return absl::OkStatus();
  }

  static absl::Status make_context(const Access& access, std::optional<asio::ssl::context>& made) {
    if (!access.tls) return absl::OkStatus();
    asio::ssl::context context(asio::ssl::context::tls_client);
    boost::system::error_code error;
    context.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                            asio::ssl::context::no_tlsv1_1,
                        error);
    if (access.ca_pem.empty())
      context.set_default_verify_paths(error);
    else
      context.add_certificate_authority(asio::buffer(access.ca_pem), error);
    if (error) return material("certificate authority", access.origin, error);
    if (!access.client_cert_pem.empty())
      context.use_certificate_chain(asio::buffer(access.client_cert_pem), error);
    if (error) return material("client certificate", access.origin, error);
    if (!access.client_key_pem.empty())
      context.use_private_key(asio::buffer(access.client_key_pem), asio::ssl::context::pem, error);
    if (error) return material("client key", access.origin, error);
    context.set_verify_mode(access.insecure ? asio::ssl::verify_none : asio::ssl::verify_peer,
                            error);
    made.emplace(std::move(context));
    return absl::OkStatus();
  }

  // Empty: there is a connection now.
  asio::awaitable<std::string> connect() {
    const auto [unresolved, endpoints] =
        co_await resolver.async_resolve(access.host, std::to_string(access.port), kAwait);
    if (unresolved) co_return "cannot resolve " + access.host + ": " + unresolved.message();
    if (tls)
      secure.emplace(io, *tls);
    else
      plain.emplace(io);
    lowest().expires_after(kConnectTime);
    const auto [refused, endpoint] = co_await lowest().async_connect(endpoints, kAwait);
    if (refused) {
      drop();
      co_return "cannot connect to " + where() + ": " + refused.message();
    }
    keep_alive(lowest().socket());
    if (!secure) co_return "";
    auto error = co_await shake_hands();
    if (!error.empty()) drop();
    co_return error;
  }

  asio::awaitable<std::string> shake_hands() {
    const std::string& name = access.server_name.empty() ? access.host : access.server_name;
    if (!is_address(name)) SSL_set_tlsext_host_name(secure->native_handle(), name.c_str());
    if (!access.insecure) {
      boost::system::error_code ignored;
      secure->set_verify_callback(asio::ssl::host_name_verification(name), ignored);
    }
    const auto [failed] = co_await secure->async_handshake(asio::ssl::stream_base::client, kAwait);
    if (!failed) co_return "";
    const long verdict = SSL_get_verify_result(secure->native_handle());
    if (verdict == X509_V_OK) co_return "TLS with " + where() + " fails: " + failed.message();
    std::string text = "the certificate of " + where() +
                       " is not trusted: " + X509_verify_cert_error_string(verdict);
    if (verdict == X509_V_ERR_CERT_NOT_YET_VALID || verdict == X509_V_ERR_CERT_HAS_EXPIRED)
      text += " (by this machine's clock)";
    co_return text;
  }

  template <class Stream>
  asio::awaitable<std::string> exchange(Stream& stream, const std::string& target,
                                        const std::string& accept, const std::string& authorization,
                                        const HttpEvents& events, bool& reusable) {
    http::request<http::empty_body> request(http::verb::get, access.path_prefix + target, 11);
    const bool v6 = access.host.find(':') != std::string::npos;
    request.set(http::field::host, v6 ? "[" + access.host + "]" : access.host);
    request.set(http::field::user_agent, "weftd/" WEFT_VERSION);
    request.set(http::field::accept, accept);
    if (!authorization.empty()) request.set(http::field::authorization, authorization);
    lowest().expires_after(kHeaderTime);
    const auto [unsent, sent] = co_await http::async_write(stream, request, kAwait);
    if (unsent) co_return "sending to " + where() + " fails: " + unsent.message();
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none);
    const auto [none, size] = co_await http::async_read_header(stream, buffer, parser, kAwait);
    if (closed) co_return "closed";
    if (none) co_return where() + " does not answer: " + none.message();
    const auto& header = parser.get();
    const auto retry = header.find(http::field::retry_after);
    events.header(header.result_int(), retry == header.end()
                                           ? std::nullopt
                                           : base::parse_number<int>(std::string_view(
                                                 retry->value().data(), retry->value().size())));
    const auto chunk = std::make_unique<char[]>(kChunk);
    while (!parser.is_done()) {
      parser.get().body() = {chunk.get(), kChunk, true};
      lowest().expires_after(events.patience());
      auto [error, got] = co_await http::async_read_some(stream, buffer, parser, kAwait);
      const std::size_t length = kChunk - parser.get().body().size;
      if (closed) co_return "closed";
      if (length && !events.body({chunk.get(), length})) co_return "hung up";
      if (error == http::error::need_buffer) error = {};
      if (error == beast::error::timeout) co_return where() + " stopped in the middle of an answer";
      if (error) co_return "the answer of " + where() + " was cut: " + error.message();
    }
    reusable = parser.keep_alive();
    co_return "";
  }
};

HttpClient::HttpClient(asio::io_context& io) : state_(std::make_shared<State>(io)) {}

HttpClient::~HttpClient() {
  state_->closed = true;
  state_->resolver.cancel();
  if (state_->connected()) state_->lowest().close();
}

absl::Status HttpClient::set_access(const Access& access) { return state_->set_access(access); }

void HttpClient::hang_up() {
  if (state_->connected()) state_->lowest().close();
}

asio::awaitable<std::string> HttpClient::get(std::string target, std::string accept,
                                             std::string authorization, HttpEvents events) {
  const auto state = state_;
  for (bool kept = state->connected();; kept = false) {
    if (!kept) {
      state->drop();
      auto error = co_await state->connect();
      if (!error.empty()) co_return error;
      if (state->closed) co_return "closed";
    }
    bool reusable = false, answered = false;
    HttpEvents watched = events;
    watched.header = [&](int status, std::optional<int> retry_after) {
      answered = true;
      events.header(status, retry_after);
    };
    // Not in one ?: expression, which GCC 12 compiles into a double free.
    std::string error;
    if (state->secure)
      error = co_await state->exchange(*state->secure, target, accept, authorization, watched,
                                       reusable);
    else
      error =
          co_await state->exchange(*state->plain, target, accept, authorization, watched, reusable);
    if (state->closed) co_return "closed";
    if (!reusable) state->drop();
    // A kept connection that the other side had closed meanwhile is no failure.
    if (!kept || answered || error.empty()) co_return error;
  }
}

}  // namespace weft::sources::kubernetes
