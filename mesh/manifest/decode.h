// Fields of one document into values, with every complaint in one place. A kind's decoder asks for
// fields by name and type; what is wrong becomes a notice with path and line, and the document is
// rejected; what nobody asked for is reported as unknown.
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/manifest/notices.h"
#include "mesh/manifest/tree.h"
#include "mesh/model/notice.h"
#include "mesh/model/object.h"

namespace weft::manifest {

class Decoder {
 public:
  Decoder(std::string object, Notices& notices) : object_(std::move(object)), notices_(notices) {}

  bool rejected() const { return rejected_; }
  std::size_t count_regex() { return ++regexes_; }  // compiling them is what costs time
  model::Origin origin(Value at) const { return notices_.origin(at.line()); }

  void reject(Value at, const std::string& message) {
    rejected_ = true;
    note(model::Severity::kRejected, at, message);
  }
  void warn(Value at, const std::string& message) { note(model::Severity::kWarning, at, message); }
  // Policy that somebody relies on and that is not kept; `why` may be empty.
  void not_enforced(Value at, const std::string& field, const std::string& why = "") {
    note(model::Severity::kNotEnforced, at,
         field + " is NOT ENFORCED" + (why.empty() ? " by this build" : ": " + why));
  }

  // Each: nothing where the field is absent or null; nothing and a rejection where the type is
  // wrong. `path` is the parent's, "spec.ports[0]".
  Value mapping(Value parent, const std::string& path, std::string_view key);
  Value sequence(Value parent, const std::string& path, std::string_view key);
  std::optional<std::string> text(Value parent, const std::string& path, std::string_view key);
  std::optional<bool> boolean(Value parent, const std::string& path, std::string_view key);
  std::optional<std::int64_t> integer(Value parent, const std::string& path, std::string_view key,
                                      std::int64_t low, std::int64_t high);
  std::optional<std::int64_t> integer_at(Value value, const std::string& path, std::int64_t low,
                                         std::int64_t high);
  // "10s", "1.5s", "1h30m": longer than nothing, at most a year.
  std::optional<std::chrono::milliseconds> duration(Value parent, const std::string& path,
                                                    std::string_view key);
  std::optional<double> number(Value parent, const std::string& path, std::string_view key,
                               double most);  // in 0..most
  std::vector<std::string> texts(Value parent, const std::string& path, std::string_view key);
  std::optional<std::uint16_t> port(Value parent, const std::string& path, std::string_view key);
  std::optional<model::Address> address(Value value, const std::string& path);
  model::Labels labels(Value parent, const std::string& path, std::string_view key);
  // TCP where absent; nothing for SCTP, which is no error and not served, and for wrong ones.
  std::optional<model::Protocol> protocol(Value parent, const std::string& path);
  bool is(Value value, Type type, const std::string& path);

  // A warning for every field of `parent` that is not listed.
  void unknown_fields(Value parent, const std::string& path,
                      std::initializer_list<std::string_view> known,
                      std::initializer_list<std::string_view> without_effect = {});
  // Every field of `parent` that is not listed is one that somebody relies on in vain.
  void others_not_enforced(Value parent, const std::string& path,
                           std::initializer_list<std::string_view> enforced,
                           const std::string& why = "");

 private:
  void note(model::Severity severity, Value at, const std::string& message) {
    notices_.add(severity, at.line(), object_, message);
  }

  std::string object_;
  Notices& notices_;
  bool rejected_ = false;
  std::size_t regexes_ = 0;
};

std::string join_path(const std::string& path, std::string_view key);
std::string join_path(const std::string& path, std::string_view key, std::size_t index);

// "http", "HTTP2", "kubernetes.io/h2c": see AppProtocol. Nothing for what is none of them.
std::optional<model::AppProtocol> parse_app_protocol(std::string_view text);

bool is_dns_label(std::string_view name);      // RFC 1123, at most 63 bytes
bool is_dns_subdomain(std::string_view name);  // labels and dots, at most 253 bytes

// Go's format, which Kubernetes and Istio take: "1.5s", "500ms", "1h30m". Parts of a millisecond
// are rounded up. Nothing for 0, for more than a year and for what is no duration.
std::optional<std::chrono::milliseconds> parse_go_duration(std::string_view text);

// RFC 3339, in seconds since 1970.
std::optional<std::int64_t> parse_time(std::string_view text);

// metadata, checked. Service names and all namespaces are labels, other names subdomains.
enum class Name { kLabel, kSubdomain };
model::ObjectMeta decode_meta(Decoder& decoder, Value document, Name name,
                              std::span<const std::string_view> known_annotations = {});

// One function a kind, one file each.
void decode_service(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_endpoint_slice(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_pod(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_pod_labels(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_namespace(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_node(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_destination_rule(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_virtual_service(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_service_entry(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_http_route(Decoder& decoder, Value document, std::vector<model::Object>& objects);

// Kinds that no decoder reads: what is said of each.
struct Remark {
  model::Severity severity;
  std::string message;
};
Remark remark_on(std::string_view group, std::string_view kind);

bool in_words(std::string_view words, std::string_view word);  // words are separated by spaces

}  // namespace weft::manifest
