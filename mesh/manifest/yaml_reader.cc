// YAML by libfyaml's event stream, never by its document mode: that resolves aliases, and a few
// hundred bytes of nested aliases are gigabytes.
//
// libfyaml 0.7.12 trusts its input in some ways that Screen makes up for: it takes some bytes for
// the end of the input and says nothing, it is quadratic in directives, and it keeps every token of
// a line of flow style in memory, and every open bracket, some 400 bytes each (measured: 1.5 GB for
// 4 MB of brackets).
#include <libfyaml.h>

#include <array>
#include <cstdint>
#include <memory>

#include "mesh/manifest/document_builder.h"
#include "mesh/manifest/reader.h"
#include "mesh/manifest/text_reader.h"
#include "mesh/manifest/yaml_scalar.h"

namespace weft::manifest {
namespace {

// A last-applied-configuration annotation, 256 KB of JSON in one line, has some 50,000.
constexpr int kMaxIndicators = 300'000;
// Open at one time, over any number of lines.
constexpr int kMaxBrackets = 100'000;

struct DiagnosticsDeleter {
  void operator()(fy_diag* diagnostics) const {
    fy_diag_reset_error(diagnostics);  // frees the collected errors; unref alone leaks them
    fy_diag_unref(diagnostics);
  }
};
using Diagnostics = std::unique_ptr<fy_diag, DiagnosticsDeleter>;

struct ParserDeleter {
  void operator()(fy_parser* parser) const { fy_parser_destroy(parser); }
};
using Parser = std::unique_ptr<fy_parser, ParserDeleter>;

bool is_allowed_directive(std::string_view line) {
  while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r'))
    line.remove_suffix(1);
  return line == "%YAML 1.1" || line == "%YAML 1.2";
}

enum class Class : std::uint8_t { kNothing, kNul, kControl, kOpen, kClose, kIndicator };

constexpr std::array<Class, 256> classify() {
  std::array<Class, 256> classes{};
  for (std::size_t c = 0; c < 0x20; ++c) classes[c] = Class::kControl;
  classes[0] = Class::kNul;
  classes['\t'] = Class::kNothing;
  classes[0x7f] = Class::kControl;
  for (const unsigned char c : {',', ':', '?', '-', '&', '*', '!', '"', '\''})
    classes[c] = Class::kIndicator;
  for (const unsigned char c : {'[', '{'}) classes[c] = Class::kOpen;
  for (const unsigned char c : {']', '}'}) classes[c] = Class::kClose;
  return classes;
}
constexpr auto kClasses = classify();

// What libfyaml must not see. Knows no more of YAML than bytes and lines, so it counts what stands
// in quotes and comments too, and its limits are wide.
class Screen {
 public:
  Stop check(std::string_view bytes) {
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      const char c = bytes[at];
      if (c == '%' && at_start_ &&
          !is_allowed_directive(bytes.substr(at, bytes.find('\n', at) - at)))
        return {
            "has a line that begins with %: of YAML's directives only %YAML 1.1 and 1.2 are read",
            line_};
      at_start_ = c == '\n' || c == '\r';
      if (at_start_) {
        line_ += c == '\n';
        indicators_ = 0;
      } else if (const char* why = refuses(c)) {
        return {why, line_};
      }
    }
    return {};
  }

 private:
  const char* refuses(char c) {
    switch (kClasses[static_cast<unsigned char>(c)]) {
      case Class::kNothing:
        return nullptr;
      case Class::kNul:
        return "has a NUL byte: it was damaged, or is no text";
      case Class::kControl:
        return "has a control character: it was damaged, or is no text";
      case Class::kOpen:
        if (++brackets_ > kMaxBrackets) return "has too many open brackets";
        break;
      case Class::kClose:
        if (brackets_ > 0) --brackets_;
        break;
      case Class::kIndicator:
        break;
    }
    return ++indicators_ > kMaxIndicators
               ? "has too much in one line: break it, or make it a .json file"
               : nullptr;
  }

  int line_ = 1, indicators_ = 0, brackets_ = 0;
  bool at_start_ = true;
};

class YamlReader {
 public:
  YamlReader(fy_parser* parser, fy_diag* diagnostics, const OnDocument& on_document)
      : parser_(parser), diagnostics_(diagnostics), on_document_(on_document) {}

  Stop read() {
    while (fy_event* event = fy_parser_parse(parser_)) {
      if (const fy_mark* mark = fy_event_start_mark(event)) line_ = mark->line + 1;
      const auto type = event->type;
      handle(event);
      fy_parser_event_free(parser_, event);
      if (!builder_.exhausted().empty()) return {builder_.exhausted(), line_};
      if (type == FYET_STREAM_END && !fy_parser_get_stream_error(parser_)) return {};
    }
    return syntax_error();
  }

 private:
  Stop syntax_error() {
    Stop stop{"is not valid YAML", line_};
    void* state = nullptr;
    if (const fy_diag_error* error = fy_diag_errors_iterate(diagnostics_, &state)) {
      if (error->line > 0) stop.line = error->line;
      if (error->msg) stop.error += ": " + cleaned(error->msg, 100);
    }
    return stop;
  }

  void handle(const fy_event* event) {
    switch (event->type) {
      case FYET_DOCUMENT_START:
        return builder_.start_document(line_);
      case FYET_DOCUMENT_END:
        return on_document_(builder_.document());
      case FYET_MAPPING_START:
        refuse_anchor(event->mapping_start.anchor);
        refuse_tag(event->mapping_start.tag);
        builder_.open(Type::kMapping, line_);
        return;
      case FYET_SEQUENCE_START:
        refuse_anchor(event->sequence_start.anchor);
        refuse_tag(event->sequence_start.tag);
        builder_.open(Type::kSequence, line_);
        return;
      case FYET_MAPPING_END:
      case FYET_SEQUENCE_END:
        return builder_.close();
      case FYET_SCALAR:
        return scalar(event->scalar);
      case FYET_ALIAS:
        builder_.refuse("has an alias (*name): these are refused; write the value out", line_);
        return put({}, Type::kNull);
      default:
        return;
    }
  }

  void refuse_anchor(const fy_token* anchor) {
    if (anchor)
      builder_.refuse("has an anchor (&name): these are refused; write the value out", line_);
  }

  void refuse_tag(const fy_token* tag) {
    if (tag) builder_.refuse("has a tag (!name): of these only !!str is read", line_);
  }

  void scalar(const fy_event_scalar_data& data) {
    refuse_anchor(data.anchor);
    const auto tag = text_of(data.tag);
    const bool text_by_tag = tag == "tag:yaml.org,2002:str" || tag == "!!str";
    if (!text_by_tag) refuse_tag(data.tag);
    const auto text = text_of(data.value);
    if (text.find('\0') != std::string_view::npos)
      builder_.refuse("has a NUL character in a string", line_);
    const bool plain = !data.value || fy_token_scalar_style(data.value) == FYSS_PLAIN;
    put(text, plain && !text_by_tag ? plain_type(text) : Type::kString);
  }

  void put(std::string_view text, Type type) {
    if (builder_.expects_key()) return builder_.key(text, line_);
    if (type == Type::kBool) text = plain_truth(text) ? "true" : "false";
    builder_.scalar(type, type == Type::kNull ? std::string_view() : text, line_);
  }

  static std::string_view text_of(fy_token* token) {
    std::size_t length = 0;
    const char* bytes = token ? fy_token_get_text(token, &length) : nullptr;
    return bytes ? std::string_view(bytes, length) : std::string_view();
  }

  fy_parser* parser_;
  fy_diag* diagnostics_;
  const OnDocument& on_document_;
  DocumentBuilder builder_;
  int line_ = 1;
};

Stop read_events(std::string_view bytes, const OnDocument& on_document) {
  fy_diag_cfg diagnostics_config;
  fy_diag_cfg_default(&diagnostics_config);
  // Some of its errors go to standard error, collected and quiet or not.
  diagnostics_config.fp = nullptr;
  const Diagnostics diagnostics(fy_diag_create(&diagnostics_config));
  if (!diagnostics) return {"the YAML parser cannot be started", 0};
  fy_diag_set_collect_errors(diagnostics.get(), true);
  fy_parse_cfg config{};
  config.flags = FYPCF_QUIET;
  config.diag = diagnostics.get();
  const Parser parser(fy_parser_create(&config));
  if (!parser || fy_parser_set_string(parser.get(), bytes.data(), bytes.size()))
    return {"the YAML parser cannot be started", 0};
  Stop stop = YamlReader(parser.get(), diagnostics.get(), on_document).read();
  // Collected errors hold on to the parser's tokens, and nothing else frees them (0.7.12).
  fy_diag_reset_error(diagnostics.get());
  return stop;
}

}  // namespace

Stop read_yaml(std::string_view bytes, const OnDocument& on_document) {
  // JSON in a .yaml file, as `kubectl get -o json` writes it, is JSON; what only begins like it is
  // YAML.
  const auto begin = bytes.find_first_not_of(" \t\r\n");
  if (begin != std::string_view::npos && bytes[begin] == '{')
    if (read_json(bytes, on_document).error.empty()) return {};
  if (auto stop = Screen().check(bytes); !stop.error.empty()) return stop;
  return read_events(bytes, on_document);
}

}  // namespace weft::manifest
