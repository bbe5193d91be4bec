// VirtualService http[].redirect, .directResponse and .rewrite.
#include <absl/strings/escaping.h>

#include <algorithm>

#include "mesh/base/text.h"
#include "mesh/manifest/http_fields.h"
#include "mesh/manifest/text_reader.h"
#include "mesh/manifest/virtual_service.h"

namespace weft::manifest {
namespace {

using model::PathEdit;

constexpr std::string_view kPrefixVariable = "%PREFIX()%";

bool check_path(Decoder& decoder, Value at, const std::string& path, std::string_view text) {
  const bool good = std::none_of(
      text.begin(), text.end(), [](unsigned char c) { return c <= 0x20 || c == 0x7f || c == '#'; });
  if (!good) decoder.reject(at, path + " " + quoted(text) + " is not a path");
  return good;
}

void decode_status(Decoder& decoder, Value value, const std::string& path,
                   model::Redirect& redirect) {
  const auto code = decoder.integer(value, path, "redirectCode", 300, 399).value_or(301);
  if (code != 301 && code != 302 && code != 303 && code != 307 && code != 308)
    decoder.reject(value["redirectCode"], path + ".redirectCode " + std::to_string(code) +
                                              " is not 301, 302, 303, 307 or 308");
  redirect.status = static_cast<std::uint16_t>(code);
}

// False: it asks for a port that is known when a request is there.
bool decode_redirect_port(Decoder& decoder, Value value, const std::string& path,
                          model::Redirect& redirect) {
  redirect.port = decoder.port(value, path, "port");
  const auto derived = decoder.text(value, path, "derivePort");
  if (!derived) return true;
  if (redirect.port)
    decoder.reject(value["derivePort"], path + " has both port and derivePort: it is one of them");
  if (*derived == "FROM_PROTOCOL_DEFAULT") {
    redirect.port = redirect.scheme == "https" ? 443 : 80;
    return true;
  }
  if (*derived != "FROM_REQUEST_PORT")
    decoder.reject(value["derivePort"], path + ".derivePort " + quoted(*derived) +
                                            " is not FROM_PROTOCOL_DEFAULT or FROM_REQUEST_PORT");
  if (!redirect.authority) return true;  // the request's, which has its port
  decoder.not_enforced(value["derivePort"], path + ".derivePort FROM_REQUEST_PORT",
                       "beside an authority it is not known to this build; the rule is passed "
                       "over");
  return false;
}

}  // namespace

bool decode_redirect(Decoder& decoder, Value value, const std::string& path,
                     model::HttpRule& rule) {
  model::Redirect redirect;
  if (const auto uri = decoder.text(value, path, "uri"); uri && !uri->empty()) {
    check_path(decoder, value["uri"], path + ".uri", *uri);
    const bool prefix = uri->starts_with(kPrefixVariable);
    redirect.path = PathEdit{prefix ? PathEdit::Kind::kPrefix : PathEdit::Kind::kWhole,
                             prefix ? uri->substr(kPrefixVariable.size()) : *uri, ""};
  }
  if (const auto authority = decoder.text(value, path, "authority");
      authority && !authority->empty()) {
    check_authority(decoder, value["authority"], path + ".authority", *authority);
    redirect.authority = *authority;
  }
  if (const auto scheme = decoder.text(value, path, "scheme"); scheme && !scheme->empty()) {
    redirect.scheme = in_lower_case(*scheme);
    if (redirect.scheme != "http" && redirect.scheme != "https")
      decoder.reject(value["scheme"],
                     path + ".scheme " + quoted(*scheme) + " is not http or https");
  }
  decode_status(decoder, value, path, redirect);
  const bool enforced = decode_redirect_port(decoder, value, path, redirect);
  decoder.unknown_fields(value, path,
                         {"uri", "authority", "port", "derivePort", "scheme", "redirectCode"});
  rule.action = std::move(redirect);
  return enforced;
}

void decode_direct_response(Decoder& decoder, Value value, const std::string& path,
                            model::HttpRule& rule) {
  model::DirectResponse response;
  if (!value["status"].present()) decoder.reject(value, path + ".status is missing");
  response.status =
      static_cast<std::uint16_t>(decoder.integer(value, path, "status", 200, 599).value_or(200));
  const Value body = decoder.mapping(value, path, "body");
  const auto of_body = join_path(path, "body");
  const auto text = decoder.text(body, of_body, "string");
  const auto bytes = decoder.text(body, of_body, "bytes");
  if (text && bytes)
    decoder.reject(body, of_body + " has both string and bytes: it is one of them");
  response.body = text.value_or("");
  if (bytes && !absl::Base64Unescape(base::to_absl(*bytes), &response.body))
    decoder.reject(body["bytes"], of_body + ".bytes is not base64");
  decoder.unknown_fields(body, of_body, {"string", "bytes"});
  decoder.unknown_fields(value, path, {"status", "body"});
  rule.action = std::move(response);
}

void decode_rewrite(Decoder& decoder, Value value, const std::string& path, model::HttpRule& rule) {
  auto& forward = std::get<model::Forward>(rule.action);
  if (const auto authority = decoder.text(value, path, "authority");
      authority && !authority->empty()) {
    check_authority(decoder, value["authority"], path + ".authority", *authority);
    forward.authority = *authority;
  }
  const auto uri = decoder.text(value, path, "uri");
  const Value regex = decoder.mapping(value, path, "uriRegexRewrite");
  const auto of_regex = join_path(path, "uriRegexRewrite");
  if (uri && regex.present())
    decoder.reject(regex, path + " has both uri and uriRegexRewrite: it is one of them");
  if (uri && check_path(decoder, value["uri"], path + ".uri", *uri) && !uri->empty())
    forward.path = PathEdit{PathEdit::Kind::kPrefix, *uri, ""};
  if (regex.present()) {
    const auto match = decoder.text(regex, of_regex, "match").value_or("");
    const auto text = decoder.text(regex, of_regex, "rewrite").value_or("");
    if (match.empty()) decoder.reject(regex, of_regex + ".match is missing");
    if (check_regex(decoder, regex["match"], of_regex + ".match", match))
      check_replacement(decoder, regex["rewrite"], of_regex + ".rewrite", match, text);
    forward.path = PathEdit{PathEdit::Kind::kRegex, text, match};
  }
  decoder.unknown_fields(regex, of_regex, {"match", "rewrite"});
  decoder.unknown_fields(value, path, {"uri", "authority", "uriRegexRewrite"});
}

}  // namespace weft::manifest
