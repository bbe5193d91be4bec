// Fields of one document into values, with every complaint in one place. A kind's decoder asks for fields
// by name and type; what is wrong becomes a notice with path and line, and the document is rejected; what
// nobody asked for is reported as unknown.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/manifest/tree.h"
#include "mesh/model/notice.h"
#include "mesh/model/object.h"

namespace weft::manifest {

class Decoder {
 public:
  Decoder(std::shared_ptr<const std::string> file, std::string object, std::vector<model::Notice>& notices)
      : file_(std::move(file)), object_(std::move(object)), notices_(notices) {}

  bool rejected() const { return rejected_; }
  model::Origin origin(Value at) const { return {file_, at.line()}; }
  const std::string& object() const { return object_; }

  void reject(Value at, const std::string& message) {
    rejected_ = true;
    note(model::Severity::kRejected, at, message);
  }
  void warn(Value at, const std::string& message) { note(model::Severity::kWarning, at, message); }
  void not_enforced(Value at, const std::string& message) { note(model::Severity::kNotEnforced, at, message); }
  void info(Value at, const std::string& message) { note(model::Severity::kInfo, at, message); }

  // Each: nothing where the field is absent or null; nothing and a rejection where the type is wrong.
  // `path` is the parent's, "spec.ports[0]".
  Value mapping(Value parent, const std::string& path, std::string_view key);
  Value sequence(Value parent, const std::string& path, std::string_view key);
  std::optional<std::string> text(Value parent, const std::string& path, std::string_view key);
  std::optional<bool> boolean(Value parent, const std::string& path, std::string_view key);
  std::optional<std::int64_t> integer(Value parent, const std::string& path, std::string_view key, std::int64_t low,
                                      std::int64_t high);
  std::optional<std::uint16_t> port(Value parent, const std::string& path, std::string_view key);
  std::optional<model::Address> address(Value value, const std::string& path);
  model::Labels labels(Value parent, const std::string& path, std::string_view key);
  bool is(Value value, Type type, const std::string& path);

  // A warning for every field of `parent` that is in neither list.
  void unknown_fields(Value parent, const std::string& path, std::initializer_list<std::string_view> known,
                      std::initializer_list<std::string_view> quiet = {});

 private:
  void note(model::Severity severity, Value at, const std::string& message);

  std::shared_ptr<const std::string> file_;
  std::string object_;
  std::vector<model::Notice>& notices_;
  bool rejected_ = false;
};

std::string join_path(const std::string& path, std::string_view key);
std::string join_path(const std::string& path, std::string_view key, std::size_t index);

bool is_dns_label(std::string_view name);      // RFC 1123, at most 63 bytes
bool is_dns_subdomain(std::string_view name);  // labels and dots, at most 253 bytes

// metadata, checked. Service names and namespaces are labels, other names subdomains.
model::ObjectMeta decode_meta(Decoder& decoder, Value document, bool name_is_label);

// One function a kind, one file each.
void decode_service(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_endpoint_slice(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_pod(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_destination_rule(Decoder& decoder, Value document, std::vector<model::Object>& objects);
void decode_virtual_service(Decoder& decoder, Value document, std::vector<model::Object>& objects);

}  // namespace weft::manifest
