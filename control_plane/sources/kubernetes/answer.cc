#include "control_plane/sources/kubernetes/answer.h"

#include <simdjson.h>

namespace weft::sources::kubernetes {
namespace {

namespace ondemand = simdjson::ondemand;
using simdjson::error_code;

absl::Status not_json(error_code error) {
  return absl::DataLossError(std::string("the answer is not what the API promises: ") +
                             simdjson::error_message(error));
}

// Empty where the field is no text: what that means is for whoever needs it.
std::string text_of(ondemand::value value) {
  std::string_view text;
  return value.get_string().get(text) ? "" : std::string(text);
}

struct Metadata {
  std::string name, namespace_name, resource_version, next;
};

error_code read_metadata(ondemand::value value, Metadata& metadata) {
  ondemand::json_type type;
  if (const auto error = value.type().get(type)) return error;
  if (type != ondemand::json_type::object) return simdjson::SUCCESS;
  ondemand::object fields;
  if (const auto error = value.get_object().get(fields)) return error;
  for (auto entry : fields) {
    ondemand::field field;
    if (const auto error = std::move(entry).get(field)) return error;
    std::string_view key;
    if (const auto error = field.unescaped_key().get(key)) return error;
    if (key == "name")
      metadata.name = text_of(field.value());
    else if (key == "namespace")
      metadata.namespace_name = text_of(field.value());
    else if (key == "resourceVersion")
      metadata.resource_version = text_of(field.value());
    else if (key == "continue")
      metadata.next = text_of(field.value());
  }
  return simdjson::SUCCESS;
}

error_code read_object(ondemand::value value, RawObject& object) {
  ondemand::object fields;
  if (const auto error = value.get_object().get(fields)) return error;
  Metadata metadata;
  ondemand::value found;
  if (fields.find_field_unordered("metadata").get(found) == simdjson::SUCCESS)
    if (const auto error = read_metadata(found, metadata)) return error;
  if (const auto error = fields.reset().error()) return error;
  if (const auto error = fields.raw_json().get(object.json)) return error;
  object.name = metadata.namespace_name.empty() || metadata.name.empty()
                    ? metadata.name
                    : metadata.namespace_name + "/" + metadata.name;
  object.resource_version = std::move(metadata.resource_version);
  return simdjson::SUCCESS;
}

error_code read_items(ondemand::value value,
                      const std::function<void(const RawObject&)>& on_object) {
  ondemand::json_type type;
  if (const auto error = value.type().get(type)) return error;
  if (type == ondemand::json_type::null) return simdjson::SUCCESS;  // Go's empty slice
  ondemand::array items;
  if (const auto error = value.get_array().get(items)) return error;
  for (auto entry : items) {
    ondemand::value item;
    if (const auto error = std::move(entry).get(item)) return error;
    RawObject object;
    if (const auto error = read_object(item, object)) return error;
    on_object(object);
  }
  return simdjson::SUCCESS;
}

error_code read_list(ondemand::document& document, Metadata& metadata, bool& has_items,
                     const std::function<void(const RawObject&)>& on_object) {
  ondemand::object fields;
  if (const auto error = document.get_object().get(fields)) return error;
  for (auto entry : fields) {
    ondemand::field field;
    if (const auto error = std::move(entry).get(field)) return error;
    std::string_view key;
    if (const auto error = field.unescaped_key().get(key)) return error;
    if (key == "metadata") {
      if (const auto error = read_metadata(field.value(), metadata)) return error;
    } else if (key == "items") {
      has_items = true;
      if (const auto error = read_items(field.value(), on_object)) return error;
    }
  }
  return simdjson::SUCCESS;
}

EventType type_of(std::string_view text) {
  if (text == "ADDED") return EventType::kAdded;
  if (text == "MODIFIED") return EventType::kModified;
  if (text == "DELETED") return EventType::kDeleted;
  if (text == "BOOKMARK") return EventType::kBookmark;
  return text == "ERROR" ? EventType::kError : EventType::kUnknown;
}

}  // namespace

absl::StatusOr<Page> read_page(std::string_view json,
                               const std::function<void(const RawObject&)>& on_object) {
  const simdjson::padded_string padded(json);
  ondemand::parser parser;
  ondemand::document document;
  if (const auto error = parser.iterate(padded).get(document)) return not_json(error);
  Metadata metadata;
  bool has_items = false;
  if (const auto error = read_list(document, metadata, has_items, on_object))
    return not_json(error);
  if (!has_items || metadata.resource_version.empty())
    return absl::DataLossError("the answer is no list: it has no items or no resourceVersion");
  return Page{std::move(metadata.resource_version), std::move(metadata.next)};
}

ServerStatus read_status(std::string_view json) {
  ServerStatus status;
  const simdjson::padded_string padded(json);
  ondemand::parser parser;
  ondemand::document document;
  ondemand::object fields;
  if (parser.iterate(padded).get(document) || document.get_object().get(fields)) return status;
  for (auto entry : fields) {
    ondemand::field field;
    std::string_view key;
    if (std::move(entry).get(field) || field.unescaped_key().get(key)) break;
    if (std::int64_t code; key == "code" && field.value().get_int64().get(code) == 0)
      status.code = static_cast<int>(code);
    else if (key == "reason")
      status.reason = text_of(field.value());
    else if (key == "message")
      status.message = text_of(field.value());
  }
  return status;
}

absl::StatusOr<Event> read_event(std::string_view line) {
  const simdjson::padded_string padded(line);
  ondemand::parser parser;
  ondemand::document document;
  ondemand::object fields;
  if (const auto error = parser.iterate(padded).get(document)) return not_json(error);
  if (const auto error = document.get_object().get(fields)) return not_json(error);
  Event event;
  bool has_object = false;
  for (auto entry : fields) {
    ondemand::field field;
    if (const auto error = std::move(entry).get(field)) return not_json(error);
    std::string_view key;
    if (const auto error = field.unescaped_key().get(key)) return not_json(error);
    if (key == "type") {
      std::string_view type;
      if (const auto error = field.value().get_string().get(type)) return not_json(error);
      event.type = type_of(type);
    } else if (key == "object") {
      has_object = true;
      if (const auto error = read_object(field.value(), event.object)) return not_json(error);
    }
  }
  if (!has_object) return absl::DataLossError("an event of the watch has no object");
  // The view is into the padded copy; the caller's bytes are the same.
  const auto offset = static_cast<std::size_t>(event.object.json.data() - padded.data());
  event.object.json = line.substr(offset, event.object.json.size());
  if (event.type == EventType::kError) event.status = read_status(event.object.json);
  return event;
}

}  // namespace weft::sources::kubernetes
