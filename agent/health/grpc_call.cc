#include "agent/health/grpc_call.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>

#include "mesh/base/text.h"

namespace weft::health {
namespace {

constexpr std::size_t kMostBytes = 64 * 1024;  // of a whole answer, which has less than a hundred
constexpr std::size_t kMostMessage = 4096;
constexpr std::size_t kPrefix = 5;  // compressed flag, length in four bytes

constexpr std::array<const char*, 17> kCodes{
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};
constexpr std::array<const char*, 4> kServing{"UNKNOWN", "SERVING", "NOT_SERVING",
                                              "SERVICE_UNKNOWN"};

template <std::size_t N>
std::string name_of(std::uint64_t number, const std::array<const char*, N>& names) {
  return number < N ? names[number] : std::to_string(number);
}

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

std::optional<std::uint64_t> take_varint(std::string_view& in) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !in.empty(); shift += 7) {
    const auto byte = static_cast<std::uint8_t>(in.front());
    in.remove_prefix(1);
    value |= std::uint64_t{byte & 0x7fu} << shift;
    if (!(byte & 0x80)) return value;
  }
  return std::nullopt;
}

// HealthCheckRequest { string service = 1; } behind its prefix.
std::string request_of(const std::string& service) {
  std::string message;
  if (!service.empty()) {
    message += '\x0a';
    put_varint(message, service.size());
    message += service;
  }
  std::string framed(1, '\0');
  for (const int shift : {24, 16, 8, 0}) framed += static_cast<char>(message.size() >> shift);
  return framed + message;
}

// HealthCheckResponse { ServingStatus status = 1; }; fields of a later version are passed over.
std::optional<std::uint64_t> status_of(std::string_view message) {
  std::uint64_t status = 0;
  while (!message.empty()) {
    const auto tag = take_varint(message);
    if (!tag) return std::nullopt;
    std::optional<std::uint64_t> skip = 0;
    switch (*tag & 7) {
      case 0: {
        const auto value = take_varint(message);
        if (!value) return std::nullopt;
        if (*tag >> 3 == 1) status = *value;
        break;
      }
      case 1:
        skip = 8;
        break;
      case 2:
        skip = take_varint(message);
        break;
      case 5:
        skip = 4;
        break;
      default:
        return std::nullopt;
    }
    if (!skip || *skip > message.size()) return std::nullopt;
    message.remove_prefix(*skip);
  }
  return status;
}

nghttp2_nv header(std::string_view name, std::string_view value) {
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));  // it is copied
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

}  // namespace

struct GrpcCall::State {
  std::string request;
  std::size_t requested = 0;  // bytes of it that are on their way
  std::size_t received = 0;
  std::string http_status, grpc_status, message;
  bool closed = false;
  std::uint32_t closed_with = NGHTTP2_NO_ERROR;
  std::string fault;  // ends the call
  nghttp2_session* session = nullptr;

  ~State() { nghttp2_session_del(session); }

  // nghttp2's own limits keep a header short enough; nothing here throws through it but bad_alloc.
  static int on_header(nghttp2_session*, const nghttp2_frame*, const std::uint8_t* name,
                       std::size_t name_length, const std::uint8_t* value, std::size_t value_length,
                       std::uint8_t, void* user) {
    auto& state = *static_cast<State*>(user);
    const std::string_view key(reinterpret_cast<const char*>(name), name_length);
    const std::string_view text(reinterpret_cast<const char*>(value), value_length);
    if (key == ":status") state.http_status = text;
    if (key == "grpc-status") state.grpc_status = text;
    return 0;
  }

  static int on_data(nghttp2_session*, std::uint8_t, std::int32_t, const std::uint8_t* data,
                     std::size_t length, void* user) {
    auto& state = *static_cast<State*>(user);
    if (state.message.size() + length > kMostMessage) return NGHTTP2_ERR_CALLBACK_FAILURE;
    state.message.append(reinterpret_cast<const char*>(data), length);
    return 0;
  }

  static int on_close(nghttp2_session*, std::int32_t, std::uint32_t error, void* user) {
    auto& state = *static_cast<State*>(user);
    state.closed = true;
    state.closed_with = error;
    return 0;
  }

  static ssize_t on_read(nghttp2_session*, std::int32_t, std::uint8_t* out, std::size_t length,
                         std::uint32_t* flags, nghttp2_data_source* source, void*) {
    auto& state = *static_cast<State*>(source->ptr);
    const auto size = std::min(length, state.request.size() - state.requested);
    std::memcpy(out, state.request.data() + state.requested, size);
    state.requested += size;
    if (state.requested == state.request.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(size);
  }

  bool open() {
    nghttp2_session_callbacks* callbacks = nullptr;
    if (nghttp2_session_callbacks_new(&callbacks)) return false;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    const int error = nghttp2_session_client_new(&session, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    return error == 0;
  }

  bool submit(const std::string& authority) {
    const std::array settings{nghttp2_settings_entry{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    const std::array headers{header(":method", "POST"),
                             header(":scheme", "http"),
                             header(":path", "/grpc.health.v1.Health/Check"),
                             header(":authority", authority),
                             header("te", "trailers"),
                             header("content-type", "application/grpc"),
                             header("user-agent", "weftd/" WEFT_VERSION)};
    nghttp2_data_provider body{};
    body.source.ptr = this;
    body.read_callback = on_read;
    return nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) ==
               0 &&
           nghttp2_submit_request(session, nullptr, headers.data(), headers.size(), &body,
                                  nullptr) > 0;
  }

  Result judge() const {
    if (!fault.empty()) return {false, fault};
    if (grpc_status.empty() && closed && closed_with != NGHTTP2_NO_ERROR)
      return {false, std::string("gRPC call reset: ") + nghttp2_http2_strerror(closed_with)};
    if (http_status.empty()) return {false, closed ? "no gRPC answer" : "not HTTP/2"};
    if (grpc_status.empty() && http_status != "200") return {false, "HTTP " + http_status};
    if (grpc_status.empty()) return {false, "gRPC answer without a status"};
    const auto code = base::parse_number<std::uint32_t>(grpc_status);
    if (!code) return {false, "gRPC status that is no number"};
    if (*code != 0) return {false, "gRPC " + name_of(*code, kCodes)};
    const auto serving = serving_status();
    if (!serving) return {false, "gRPC answer that is no HealthCheckResponse"};
    return {*serving == 1, "gRPC " + name_of(*serving, kServing)};
  }

  std::optional<std::uint64_t> serving_status() const {
    // Compressed it may not be: the request offers no encoding.
    if (message.size() < kPrefix || message[0] != 0) return std::nullopt;
    std::size_t length = 0;
    for (std::size_t i = 1; i < kPrefix; ++i)
      length = length << 8 | static_cast<std::uint8_t>(message[i]);
    if (length != message.size() - kPrefix) return std::nullopt;
    return status_of(std::string_view(message).substr(kPrefix));
  }
};

GrpcCall::GrpcCall(const std::string& authority, const std::string& service)
    : state_(std::make_unique<State>()) {
  state_->request = request_of(service);
  if (!state_->open() || !state_->submit(authority)) state_->fault = "cannot make a gRPC call";
}

GrpcCall::~GrpcCall() = default;

std::string GrpcCall::to_send() {
  std::string out;
  while (state_->fault.empty()) {
    const std::uint8_t* bytes = nullptr;
    const auto size = nghttp2_session_mem_send(state_->session, &bytes);
    if (size < 0) state_->fault = std::string("HTTP/2: ") + nghttp2_strerror(int(size));
    if (size <= 0) break;
    out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  }
  return out;
}

void GrpcCall::receive(std::string_view bytes) {
  if (done()) return;
  state_->received += bytes.size();
  if (state_->received > kMostBytes) {
    state_->fault = "gRPC answer over 64 KiB";
    return;
  }
  const auto size = nghttp2_session_mem_recv(
      state_->session, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  if (size == NGHTTP2_ERR_CALLBACK_FAILURE)
    state_->fault = "gRPC answer over 4 KiB";
  else if (size < 0)
    state_->fault = "not HTTP/2";
}

bool GrpcCall::done() const {
  return !state_->fault.empty() || state_->closed ||
         (!nghttp2_session_want_read(state_->session) &&
          !nghttp2_session_want_write(state_->session));
}

Result GrpcCall::result() const { return state_->judge(); }

}  // namespace weft::health
