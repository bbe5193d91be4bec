// JSON by simdjson's on-demand parser, walked once.
#include <simdjson.h>

#include <algorithm>
#include <cstring>

#include "mesh/manifest/document_builder.h"
#include "mesh/manifest/reader.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr char kSpace[] = " \t\r\n";

class JsonReader {
 public:
  explicit JsonReader(std::string_view bytes) : padded_(bytes) {}

  Stop read(const OnDocument& on_document) {
    builder_.start_document(1);
    ondemand::document document;
    if (const auto error = parser_.iterate(padded_).get(document)) return failed(error);
    ondemand::json_type type;
    if (const auto error = document.type().get(type)) return failed(error);
    if (type != ondemand::json_type::object && type != ondemand::json_type::array)
      return bare_scalar(type);
    ondemand::value root;
    if (const auto error = document.get_value().get(root)) return failed(error);
    if (const auto error = read_value(root)) return failed(error);
    const char* rest = nullptr;
    if (document.current_location().get(rest) == simdjson::SUCCESS)
      return {"has something behind its first value: a JSON file holds one object or one List",
              line_of(rest)};
    on_document(builder_.document());
    return {};
  }

 private:
  // `null` means nothing, as an empty file does. simdjson's walk is not for bare scalars.
  Stop bare_scalar(ondemand::json_type type) const {
    std::string_view text(padded_.data(), padded_.size());
    text.remove_prefix(text.find_first_not_of(kSpace));
    text.remove_suffix(text.size() - text.find_last_not_of(kSpace) - 1);
    if (type == ondemand::json_type::null && text == "null") return {};
    return {"is not an object: a manifest is a mapping with apiVersion and kind", 1};
  }

  Stop failed(simdjson::error_code error) const {
    if (!builder_.exhausted().empty()) return {builder_.exhausted(), line_};
    return {std::string("is not valid JSON: ") + simdjson::error_message(error), line_};
  }

  // Tokens come in order, so lines are counted as we go.
  int line_of(const char* token) {
    const auto offset = static_cast<std::size_t>(token - padded_.data());
    const auto end = std::min(offset, padded_.size());
    while (counted_ < end) {
      const auto* at =
          static_cast<const char*>(std::memchr(padded_.data() + counted_, '\n', end - counted_));
      line_ += at != nullptr;
      counted_ = at ? static_cast<std::size_t>(at - padded_.data()) + 1 : end;
    }
    return line_;
  }

  simdjson::error_code read_value(ondemand::value value) {
    const std::string_view token = value.raw_json_token();
    const int line = line_of(token.data());
    if (!builder_.exhausted().empty()) return simdjson::CAPACITY;
    ondemand::json_type type;
    if (const auto error = value.type().get(type)) return error;
    switch (type) {
      case ondemand::json_type::object:
        return read_object(value, line);
      case ondemand::json_type::array:
        return read_array(value, line);
      case ondemand::json_type::string:
        return read_string(value, line);
      case ondemand::json_type::number: {
        double number;
        if (const auto error = value.get_double().get(number)) return error;
        const auto end = token.find_last_not_of(kSpace) + 1;
        builder_.scalar(Type::kNumber, token.substr(0, end), line);
        return simdjson::SUCCESS;
      }
      case ondemand::json_type::boolean: {
        bool truth;
        if (const auto error = value.get_bool().get(truth)) return error;
        builder_.scalar(Type::kBool, truth ? "true" : "false", line);
        return simdjson::SUCCESS;
      }
      case ondemand::json_type::null:
        if (token.substr(0, 4) != "null") return simdjson::N_ATOM_ERROR;
        if (bool null; value.is_null().get(null) || !null) return simdjson::N_ATOM_ERROR;
        builder_.scalar(Type::kNull, {}, line);
        return simdjson::SUCCESS;
    }
    return simdjson::TAPE_ERROR;
  }

  simdjson::error_code read_string(ondemand::value value, int line) {
    std::string_view text;
    if (const auto error = value.get_string().get(text)) return error;
    if (text.find('\0') != std::string_view::npos)
      builder_.refuse("has a NUL character in a string", line);
    builder_.scalar(Type::kString, text, line);
    return simdjson::SUCCESS;
  }

  simdjson::error_code read_object(ondemand::value value, int line) {
    if (!builder_.open(Type::kMapping, line)) {
      builder_.close();
      return simdjson::SUCCESS;  // the iterator skips what is not read
    }
    ondemand::object fields;
    if (const auto error = value.get_object().get(fields)) return error;
    for (auto entry : fields) {
      ondemand::field field;
      if (const auto error = std::move(entry).get(field)) return error;
      const int key_line = line_of(field.key().raw());
      std::string_view key;
      if (const auto error = field.unescaped_key().get(key)) return error;
      if (key.find('\0') != std::string_view::npos)
        builder_.refuse("has a NUL character in a key", key_line);
      builder_.key(key, key_line);
      if (const auto error = read_value(field.value())) return error;
    }
    builder_.close();
    return simdjson::SUCCESS;
  }

  simdjson::error_code read_array(ondemand::value value, int line) {
    if (!builder_.open(Type::kSequence, line)) {
      builder_.close();
      return simdjson::SUCCESS;  // the iterator skips what is not read
    }
    ondemand::array items;
    if (const auto error = value.get_array().get(items)) return error;
    for (auto item : items) {
      ondemand::value each;
      if (const auto error = std::move(item).get(each)) return error;
      if (const auto error = read_value(each)) return error;
    }
    builder_.close();
    return simdjson::SUCCESS;
  }

  simdjson::padded_string padded_;
  ondemand::parser parser_{kMaxFileBytes + 1};
  DocumentBuilder builder_;
  std::size_t counted_ = 0;
  int line_ = 1;
};

}  // namespace

Stop read_json(std::string_view bytes, const OnDocument& on_document) {
  if (bytes.find_first_not_of(kSpace) == std::string_view::npos) return {};
  return JsonReader(bytes).read(on_document);
}

}  // namespace weft::manifest
