// YAML by libfyaml's event stream, never by its document mode: that resolves aliases, and a few hundred
// bytes of nested aliases are gigabytes.
#include <libfyaml.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <unordered_set>
#include <vector>

#include "mesh/manifest/reader.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

struct ParserDeleter {
  void operator()(fy_parser* parser) const { fy_parser_destroy(parser); }
};

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> all) {
  return std::find(all.begin(), all.end(), text) != all.end();
}

bool looks_like_number(std::string_view text) {
  std::size_t at = text[0] == '-' || text[0] == '+' ? 1 : 0;
  if (at == text.size()) return false;
  if (is_one_of(text.substr(at), {".inf", ".Inf", ".INF"}) || is_one_of(text, {".nan", ".NaN", ".NAN"})) return true;
  if (text.substr(at).starts_with("0x"))
    return text.find_first_not_of("0123456789abcdefABCDEF_", at + 2) == std::string_view::npos && text.size() > at + 2;
  if (text.substr(at).starts_with("0o"))
    return text.find_first_not_of("01234567_", at + 2) == std::string_view::npos && text.size() > at + 2;
  bool digit = false, point = false, exponent = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c >= '0' && c <= '9') {
      digit = true;
    } else if (c == '.' && !point && !exponent) {
      point = true;
    } else if ((c == 'e' || c == 'E') && digit && !exponent) {
      exponent = true;
      if (at + 1 < text.size() && (text[at + 1] == '-' || text[at + 1] == '+')) ++at;
      if (at + 1 == text.size()) return false;
    } else if (c != '_' || !digit) {
      return false;
    }
  }
  return digit;
}

// Plain scalars as Kubernetes' YAML library has them: YAML 1.1's booleans.
Type plain_type(std::string_view text) {
  if (text.empty() || is_one_of(text, {"~", "null", "Null", "NULL"})) return Type::kNull;
  if (is_one_of(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"})) return Type::kBool;
  if (is_one_of(text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"})) return Type::kBool;
  return looks_like_number(text) ? Type::kNumber : Type::kString;
}

bool plain_truth(std::string_view text) {
  return is_one_of(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"});
}

class YamlReader {
 public:
  YamlReader(fy_parser* parser, const OnDocument& on_document) : parser_(parser), on_document_(on_document) {}

  Stop read() {
    while (fy_event* event = fy_parser_parse(parser_)) {
      if (const fy_mark* mark = fy_event_start_mark(event)) line_ = mark->line + 1;
      const auto type = event->type;
      handle(event);
      fy_parser_event_free(parser_, event);
      if (type == FYET_STREAM_END) return {};
    }
    return stop();
  }

 private:
  struct Open {
    std::uint32_t node;
    bool mapping;
    bool has_key = false;
    std::string_view key;
    std::unordered_set<std::string_view> keys;  // filled from the 16th on: most mappings are small
    int count = 0;
  };

  Stop stop() {
    Stop result{"is not valid YAML", line_};
    fy_diag* diag = fy_parser_get_diag(parser_);
    void* state = nullptr;
    if (diag)
      if (const fy_diag_error* error = fy_diag_errors_iterate(diag, &state)) {
        if (error->line >= 0) result.line = error->line + 1;
        if (error->msg) result.error += ": " + quoted(error->msg);
      }
    if (diag) fy_diag_unref(diag);
    return result;
  }

  void refuse(const std::string& why) {
    if (!error_.empty()) return;
    error_ = why;
    error_line_ = line_;
  }

  void handle(fy_event* event) {
    switch (event->type) {
      case FYET_DOCUMENT_START:
        tree_.clear();
        open_.clear();
        depth_ = 0;
        error_.clear();
        document_line_ = line_;
        begun_ = false;
        break;
      case FYET_DOCUMENT_END:
        on_document_({tree_, document_line_, error_, error_line_});
        break;
      case FYET_MAPPING_START:
        begin(event, event->mapping_start.anchor, Type::kMapping);
        break;
      case FYET_SEQUENCE_START:
        begin(event, event->sequence_start.anchor, Type::kSequence);
        break;
      case FYET_MAPPING_END:
      case FYET_SEQUENCE_END:
        end();
        break;
      case FYET_SCALAR:
        scalar(event);
        break;
      case FYET_ALIAS:
        refuse("an alias (*name): aliases are refused, they can blow up; write the value out");
        value(Type::kNull, {});
        break;
      default:
        break;
    }
  }

  void note_begin() {
    if (!begun_) document_line_ = line_;
    begun_ = true;
  }

  void begin(fy_event*, const fy_token* anchor, Type type) {
    note_begin();
    if (anchor) refuse("an anchor (&name): anchors and aliases are refused; write the value out");
    if (++depth_ > kMaxDepth) refuse("nests deeper than " + std::to_string(kMaxDepth) + " levels");
    if (depth_ > kMaxDepth) return;
    if (!open_.empty() && open_.back().mapping && !open_.back().has_key)
      refuse("a key that is not a plain word");
    const auto node = value(type, {});
    open_.push_back({node, type == Type::kMapping, false, {}, {}, 0});
  }

  void end() {
    if (depth_-- > kMaxDepth) return;
    open_.pop_back();
  }

  void scalar(const fy_event* event) {
    note_begin();
    if (event->scalar.anchor) refuse("an anchor (&name): anchors and aliases are refused; write the value out");
    if (depth_ > kMaxDepth) return;
    std::size_t length = 0;
    const char* bytes = event->scalar.value ? fy_token_get_text(event->scalar.value, &length) : nullptr;
    const std::string_view text = bytes ? std::string_view(bytes, length) : std::string_view();
    if (text.find('\0') != std::string_view::npos) refuse("a NUL byte");
    if (!open_.empty() && open_.back().mapping && !open_.back().has_key) return key(text);
    const bool plain =
        !event->scalar.value || fy_token_scalar_style(event->scalar.value) == FYSS_PLAIN;
    const Type type = plain ? plain_type(text) : Type::kString;
    if (type == Type::kBool)
      value(type, plain_truth(text) ? "true" : "false");
    else
      value(type, tree_.keep(text));
  }

  void key(std::string_view text) {
    Open& mapping = open_.back();
    if (text == "<<") refuse("a merge key (<<): merge keys are refused; write the values out");
    bool twice;
    constexpr int kFew = 16;
    if (mapping.count < kFew) {
      twice = tree_.has_child(mapping.node, text);
    } else {
      if (mapping.count == kFew)
        for (const auto child : Value(tree_, mapping.node)) mapping.keys.insert(child.key());
      twice = mapping.keys.contains(text);
    }
    if (twice) refuse("the key " + quoted(text) + " is there twice");
    ++mapping.count;
    mapping.key = tree_.keep(text);
    if (mapping.count > kFew) mapping.keys.insert(mapping.key);
    mapping.has_key = true;
  }

  std::uint32_t value(Type type, std::string_view text) {
    if (open_.empty()) return tree_.add(0, {}, type, text, line_);
    Open& parent = open_.back();
    parent.has_key = false;
    return tree_.add(parent.node, parent.mapping ? parent.key : std::string_view(), type, text, line_);
  }

  fy_parser* parser_;
  const OnDocument& on_document_;
  Tree tree_;
  std::vector<Open> open_;
  int depth_ = 0;
  int line_ = 1;
  int document_line_ = 1;
  bool begun_ = false;
  std::string error_;
  int error_line_ = 0;
};

}  // namespace

Stop read_yaml(std::string_view bytes, const OnDocument& on_document) {
  // libfyaml takes a NUL for the end of its input: a file of zeros, as a power cut leaves it, would read as
  // an empty one.
  if (const auto nul = bytes.find('\0'); nul != std::string_view::npos)
    return {"holds a NUL byte: it was damaged, or is no text",
            1 + static_cast<int>(std::count(bytes.begin(), bytes.begin() + nul, '\n'))};
  fy_diag_cfg diagnostics;
  fy_diag_cfg_default(&diagnostics);
  fy_diag* diag = fy_diag_create(&diagnostics);
  if (diag) fy_diag_set_collect_errors(diag, true);
  fy_parse_cfg config{};
  config.flags = static_cast<fy_parse_cfg_flags>(FYPCF_QUIET);
  config.diag = diag;
  const std::unique_ptr<fy_parser, ParserDeleter> parser(fy_parser_create(&config));
  Stop stop;
  if (!parser || fy_parser_set_string(parser.get(), bytes.data(), bytes.size()))
    stop = {"the YAML parser cannot be started", 0};
  else
    stop = YamlReader(parser.get(), on_document).read();
  if (diag) fy_diag_unref(diag);
  return stop;
}

}  // namespace weft::manifest
