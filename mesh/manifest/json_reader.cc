// JSON by simdjson's on-demand parser, walked once.
#include <simdjson.h>

#include <unordered_set>

#include "mesh/manifest/reader.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

namespace ondemand = simdjson::ondemand;

class JsonReader {
 public:
  explicit JsonReader(std::string_view bytes) : bytes_(bytes), padded_(bytes) {}

  Stop read(const OnDocument& on_document) {
    ondemand::document document;
    if (const auto error = parser_.iterate(padded_).get(document)) return failed(error);
    ondemand::value root;
    // A bare scalar cannot be a manifest; get_value refuses it.
    if (const auto error = document.get_value().get(root)) return failed(error);
    if (const auto error = value(root, 0, {}, 1)) return failed(error);
    const char* rest;
    if (document.current_location().get(rest) == simdjson::SUCCESS) return {"has something behind its first value: one object or one List a JSON file", line_};
    on_document({tree_, first_line_, error_, error_line_});
    return {};
  }

 private:
  Stop failed(simdjson::error_code error) const {
    return {std::string("is not valid JSON: ") + simdjson::error_message(error), line_};
  }

  // Tokens come in order, so lines are counted as we go.
  int line_of(std::string_view token) {
    const auto offset = static_cast<std::size_t>(token.data() - padded_.data());
    for (; counted_ < offset && counted_ < bytes_.size(); ++counted_) line_ += bytes_[counted_] == '\n';
    if (!first_line_) first_line_ = line_;
    return line_;
  }

  void refuse(const std::string& why) {
    if (!error_.empty()) return;
    error_ = why;
    error_line_ = line_;
  }

  simdjson::error_code value(ondemand::value value, std::uint32_t parent, std::string_view key, int depth) {
    const int line = line_of(value.raw_json_token());
    ondemand::json_type type;
    if (const auto error = value.type().get(type)) return error;
    if (depth > kMaxDepth + 1) {
      refuse("nests deeper than " + std::to_string(kMaxDepth) + " levels");
      return simdjson::SUCCESS;  // the iterator skips what is not read
    }
    switch (type) {
      case ondemand::json_type::object:
        return object(value, tree_.add(parent, key, Type::kMapping, {}, line), depth);
      case ondemand::json_type::array:
        return array(value, tree_.add(parent, key, Type::kSequence, {}, line), depth);
      case ondemand::json_type::string: {
        std::string_view text;
        if (const auto error = value.get_string().get(text)) return error;
        if (text.find('\0') != std::string_view::npos) refuse("a NUL character in a string");
        tree_.add(parent, key, Type::kString, tree_.keep(text), line);
        return simdjson::SUCCESS;
      }
      case ondemand::json_type::number: {
        double number;
        std::string_view token = value.raw_json_token();
        if (const auto error = value.get_double().get(number)) return error;
        token = token.substr(0, token.find_last_not_of(" \t\r\n") + 1);
        tree_.add(parent, key, Type::kNumber, tree_.keep(token), line);
        return simdjson::SUCCESS;
      }
      case ondemand::json_type::boolean: {
        bool truth;
        if (const auto error = value.get_bool().get(truth)) return error;
        tree_.add(parent, key, Type::kBool, truth ? "true" : "false", line);
        return simdjson::SUCCESS;
      }
      case ondemand::json_type::null:
        if (!value.is_null()) return simdjson::N_ATOM_ERROR;
        tree_.add(parent, key, Type::kNull, {}, line);
        return simdjson::SUCCESS;
    }
    return simdjson::TAPE_ERROR;
  }

  simdjson::error_code object(ondemand::value value_of, std::uint32_t node, int depth) {
    ondemand::object fields;
    if (const auto error = value_of.get_object().get(fields)) return error;
    std::unordered_set<std::string_view> keys;
    for (auto entry : fields) {
      ondemand::field field;
      if (const auto error = std::move(entry).get(field)) return error;
      std::string_view name;
      if (const auto error = field.unescaped_key().get(name)) return error;
      name = tree_.keep(name);
      if (!keys.insert(name).second) refuse("the key " + quoted(name) + " is there twice");
      if (const auto error = value(field.value(), node, name, depth + 1)) return error;
    }
    return simdjson::SUCCESS;
  }

  simdjson::error_code array(ondemand::value value_of, std::uint32_t node, int depth) {
    ondemand::array items;
    if (const auto error = value_of.get_array().get(items)) return error;
    for (auto item : items) {
      ondemand::value each;
      if (const auto error = std::move(item).get(each)) return error;
      if (const auto error = value(each, node, {}, depth + 1)) return error;
    }
    return simdjson::SUCCESS;
  }

  std::string_view bytes_;
  simdjson::padded_string padded_;
  ondemand::parser parser_{kMaxFileBytes + 1};
  Tree tree_;
  std::size_t counted_ = 0;
  int line_ = 1;
  int first_line_ = 0;
  std::string error_;
  int error_line_ = 0;
};

}  // namespace

Stop read_json(std::string_view bytes, const OnDocument& on_document) {
  if (bytes.find_first_not_of(" \t\r\n") == std::string_view::npos) return {};
  return JsonReader(bytes).read(on_document);
}

}  // namespace weft::manifest
