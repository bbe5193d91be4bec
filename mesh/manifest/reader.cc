#include "mesh/manifest/reader.h"

#include <simdjson.h>

#include <algorithm>
#include <optional>
#include <set>

#include "mesh/manifest/decode.h"
#include "mesh/manifest/notices.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

using model::Severity;

// What this build understands. A new kind is a line here and a file of its own.
struct Kind {
  std::string_view group;
  std::string_view versions;
  std::string_view kind;
  void (*decode)(Decoder&, Value, std::vector<model::Object>&);
};
constexpr Kind kKinds[] = {
    {"", "v1", "Service", decode_service},
    {"discovery.k8s.io", "v1", "EndpointSlice", decode_endpoint_slice},
    {"", "v1", "Pod", decode_pod},
    // Sources ask for pods alone in this form, which does not say what it is the metadata of.
    {"meta.k8s.io", "v1", "PartialObjectMetadata", decode_pod_labels},
    {"", "v1", "Namespace", decode_namespace},
    {"", "v1", "Node", decode_node},
    {"networking.istio.io", "v1 v1beta1 v1alpha3", "DestinationRule", decode_destination_rule},
    {"networking.istio.io", "v1 v1beta1 v1alpha3", "VirtualService", decode_virtual_service},
    {"networking.istio.io", "v1 v1beta1 v1alpha3", "ServiceEntry", decode_service_entry},
    {"gateway.networking.k8s.io", "v1 v1beta1", "HTTPRoute", decode_http_route},
};

// The field where it is there once. With two of them nobody knows which was meant.
Value only(Value parent, std::string_view key) {
  Value found;
  for (const Value field : parent) {
    if (field.key() != key) continue;
    if (found.present()) return {};
    found = field;
  }
  return found;
}

std::optional<std::string> only_text(Value parent, std::string_view key) {
  const Value found = only(parent, key);
  if (found.type() != Type::kString || found.text().empty()) return std::nullopt;
  return std::string(found.text());
}

// An object's envelope; what is not there is empty.
struct Head {
  std::string group, version, kind;
  std::optional<model::ObjectId> id;

  // For messages: with a name nobody can write a screenful.
  std::string to_text() const {
    if (!id) return kind.empty() ? "" : cleaned(kind, 80);
    return cleaned(id->kind, 80) + " " + cleaned(id->namespace_name, 63) + "/" +
           cleaned(id->name, 253);
  }
};

Head head_of(Value object, const ItemKind& item) {
  Head head;
  head.kind = only_text(object, "kind").value_or("");
  auto version = only_text(object, "apiVersion").value_or("");
  // Items of a typed list (ServiceList) may leave apiVersion and kind to it.
  if (!object["kind"].present() && !item.kind.empty()) {
    head.kind = item.kind;
    version = item.api_version;
  }
  const auto slash = version.find('/');
  if (slash != std::string::npos) head.group = version.substr(0, slash);
  head.version = slash == std::string::npos ? version : version.substr(slash + 1);
  const Value metadata = only(object, "metadata");
  const auto name = only_text(metadata, "name"), space = only_text(metadata, "namespace");
  const bool space_unclear =
      metadata["namespace"].present() && !space &&
      !(metadata["namespace"].type() == Type::kString && metadata["namespace"].text().empty());
  if (!head.kind.empty() && name && !space_unclear)
    head.id = model::ObjectId{head.kind, space.value_or("default"), *name};
  return head;
}

int first_bad_line(std::string_view bytes) {
  int line = 1;
  for (;; ++line) {
    const auto end = std::min(bytes.find('\n'), bytes.size());
    if (!simdjson::validate_utf8(bytes.data(), end) || end == bytes.size()) return line;
    bytes.remove_prefix(end + 1);
  }
}

class Reader {
 public:
  explicit Reader(const std::string& file, ItemKind item = {}) : notices_(file), item_(item) {}

  ParseResult read(std::string_view bytes, Format format) && {
    const Stop stop = read_bytes(bytes, format);
    if (!stop.error.empty()) refuse_unidentified(stop.error, stop.line);
    result_.notices = notices_.take();
    return std::move(result_);
  }

 private:
  Stop read_bytes(std::string_view bytes, Format format) {
    if (bytes.size() > kMaxFileBytes) return {"is over 64 MB: split it", 0};
    if (bytes.starts_with("\xef\xbb\xbf")) bytes.remove_prefix(3);  // a byte order mark
    if (!simdjson::validate_utf8(bytes.data(), bytes.size()))
      return {"is not UTF-8: it was damaged, or is no text", first_bad_line(bytes)};
    const auto on_document = [this](const Document& document) { read_document(document); };
    return format == Format::kJson ? read_json(bytes, on_document) : read_yaml(bytes, on_document);
  }

  void refuse_unidentified(const std::string& why, int line) {
    result_.unidentified_rejection = true;
    notices_.add(Severity::kRejected, line, "", why);
  }

  void reject(const Head& head, int line, const std::string& why) {
    notices_.add(Severity::kRejected, line, head.to_text(), why);
    reject(head);
  }

  void reject(const Head& head) {
    if (head.id)
      result_.rejected.push_back(*head.id);
    else
      result_.unidentified_rejection = true;
  }

  void read_document(const Document& document) {
    if (!document.error.empty()) {
      Head head = head_of(document.root, {});
      if (head.kind.ends_with("List")) head.id.reset();  // it is its items that are unknown
      return reject(head, document.error_line, document.error);
    }
    // Nothing between two markers.
    if (document.root.present()) read_any(document.root, item_);
  }

  void read_any(Value value, const ItemKind& item) {
    if (value.type() != Type::kMapping)
      refuse_unidentified("is not an object: a manifest is a mapping with apiVersion and kind",
                          value.line());
    else if (const Value kind = value["kind"];
             kind.type() == Type::kString && kind.text().ends_with("List") && is_list(value))
      read_list(value);
    else
      read_object(value, item);
  }

  // Where something else is called "...List", it is a kind like any other.
  static bool is_list(Value value) {
    return value["kind"].text() == "List" || value["items"].type() == Type::kSequence;
  }

  void read_list(Value list) {
    const Value items = list["items"];
    if (items.present() && items.type() != Type::kSequence)
      return refuse_unidentified("has items that are not a list", items.line());
    const auto kind = list["kind"].text();
    const ItemKind typed{kind.substr(0, kind.size() - 4), list["apiVersion"].text()};
    for (const Value item : items) read_any(item, typed);
  }

  void read_object(Value object, const ItemKind& item) {
    const Head head = head_of(object, item);
    if (head.kind.empty() || head.version.empty())
      return reject(
          head, object.line(),
          std::string(head.kind.empty() ? "kind" : "apiVersion") + " is missing or not a string");
    for (const auto& kind : kKinds) {
      // A kind of the same name in somebody's group of his own is another kind; the core group is
      // what people write who forgot the group.
      if (kind.kind != head.kind || (kind.group != head.group && !head.group.empty())) continue;
      if (kind.group == head.group && in_words(kind.versions, head.version))
        return decode(kind, object, head);
      return reject(head, object["apiVersion"].line(),
                    "apiVersion " + quoted(object["apiVersion"].text()) +
                        " is not known for it: this build reads " +
                        (kind.group.empty() ? "" : std::string(kind.group) + "/") +
                        std::string(kind.versions));
    }
    const auto remark = remark_on(head.group, head.kind);
    notices_.add(remark.severity, object.line(), head.to_text(), remark.message);
  }

  void decode(const Kind& kind, Value object, const Head& head) {
    Decoder decoder(head.to_text(), notices_);
    std::vector<model::Object> objects;
    kind.decode(decoder, object, objects);
    if (decoder.rejected()) return reject(head);
    for (auto& value : objects)
      result_.objects.push_back(std::make_shared<const model::Object>(std::move(value)));
  }

  Notices notices_;
  ItemKind item_;
  ParseResult result_;
};

}  // namespace

ParseResult parse(std::string_view bytes, const std::string& file, Format format) {
  return Reader(file).read(bytes, format);
}

ParseResult parse_item(std::string_view json, const std::string& origin, const ItemKind& kind) {
  return Reader(origin, kind).read(json, Format::kJson);
}

std::shared_ptr<const model::Unit> carry_over(const std::shared_ptr<const model::Unit>& previous,
                                              ParseResult fresh) {
  auto unit = std::make_shared<model::Unit>();
  unit->notices = std::move(fresh.notices);
  unit->objects = std::move(fresh.objects);
  if (!previous || (fresh.rejected.empty() && !fresh.unidentified_rejection)) return unit;
  std::set<model::ObjectId> have, rejected(fresh.rejected.begin(), fresh.rejected.end());
  for (const auto& object : unit->objects) have.insert(model::id_of(*object));
  for (const auto& object : previous->objects) {
    const auto id = model::id_of(*object);
    if (!have.contains(id) && (fresh.unidentified_rejection || rejected.contains(id)))
      unit->objects.push_back(object);
  }
  return unit;
}

}  // namespace weft::manifest
