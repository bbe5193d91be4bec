#include "agent/app/config_file.h"

#include <libfyaml.h>

#include <memory>
#include <set>

namespace weft::app {
namespace {

struct DiagnosticsDeleter {
  void operator()(fy_diag* diagnostics) const { fy_diag_unref(diagnostics); }
};

struct ParserDeleter {
  void operator()(fy_parser* parser) const { fy_parser_destroy(parser); }
};

class Reader {
 public:
  explicit Reader(fy_parser* parser) : parser_(parser) {}

  absl::StatusOr<std::vector<ConfigEntry>> read() {
    std::vector<ConfigEntry> entries;
    std::set<std::string> seen;
    bool documents = false;
    while (next()) {
      switch (type_) {
        case FYET_STREAM_START:
        case FYET_STREAM_END:
        case FYET_DOCUMENT_END:
          break;
        case FYET_DOCUMENT_START:
          if (documents) return error("a second document");
          documents = true;
          break;
        case FYET_MAPPING_START:
          if (auto status = mapping(entries, seen); !status.ok()) return status;
          break;
        case FYET_SCALAR:
          if (text_.empty()) break;  // an empty file
          [[fallthrough]];
        default:
          return error("expected a mapping of flag names to values");
      }
    }
    if (failed_) return error("not valid YAML");
    return entries;
  }

 private:
  bool next() {
    fy_event* event = fy_parser_parse(parser_);
    if (!event) {
      failed_ = type_ != FYET_STREAM_END;
      return false;
    }
    type_ = event->type;
    if (const fy_mark* mark = fy_event_start_mark(event)) line_ = mark->line + 1;
    text_.clear();
    if (type_ == FYET_SCALAR && event->scalar.value) {
      std::size_t length = 0;
      if (const char* text = fy_token_get_text(event->scalar.value, &length))
        text_.assign(text, length);
    }
    fy_parser_event_free(parser_, event);
    return true;
  }

  absl::Status error(const std::string& what) const {
    return absl::InvalidArgumentError("line " + std::to_string(line_) + ": " + what);
  }

  absl::Status mapping(std::vector<ConfigEntry>& entries, std::set<std::string>& seen) {
    while (next() && type_ != FYET_MAPPING_END) {
      if (type_ != FYET_SCALAR) return error("a key must be a flag's name");
      ConfigEntry entry{text_, {}, line_};
      if (!seen.insert(entry.key).second)
        return error("the key \"" + entry.key + "\" is there twice");
      if (!next()) break;
      if (type_ == FYET_SCALAR) {
        entry.values.push_back(text_);
      } else if (type_ == FYET_SEQUENCE_START) {
        while (next() && type_ != FYET_SEQUENCE_END) {
          if (type_ != FYET_SCALAR)
            return error("\"" + entry.key + "\" may hold plain values only");
          entry.values.push_back(text_);
        }
      } else {
        return error("\"" + entry.key + "\" must be a value or a list of values");
      }
      entries.push_back(std::move(entry));
    }
    return failed_ ? error("not valid YAML") : absl::OkStatus();
  }

  fy_parser* parser_;
  fy_event_type type_ = FYET_NONE;
  std::string text_;
  int line_ = 1;
  bool failed_ = false;
};

}  // namespace

absl::StatusOr<std::vector<ConfigEntry>> parse_config(std::string_view yaml) {
  // Without diagnostics of its own libfyaml writes to standard error, quiet or not.
  fy_diag_cfg diagnostics_config;
  fy_diag_cfg_default(&diagnostics_config);
  const std::unique_ptr<fy_diag, DiagnosticsDeleter> diagnostics(
      fy_diag_create(&diagnostics_config));
  if (!diagnostics) return absl::InternalError("cannot start the YAML parser");
  fy_diag_set_collect_errors(diagnostics.get(), true);
  fy_parse_cfg config{};
  config.diag = diagnostics.get();
  config.flags = static_cast<fy_parse_cfg_flags>(FYPCF_QUIET);
  const std::unique_ptr<fy_parser, ParserDeleter> parser(fy_parser_create(&config));
  if (!parser || fy_parser_set_string(parser.get(), yaml.data(), yaml.size()))
    return absl::InternalError("cannot start the YAML parser");
  auto entries = Reader(parser.get()).read();
  // Collected errors hold on to the parser's tokens, and nothing else frees them (0.7.12).
  fy_diag_reset_error(diagnostics.get());
  return entries;
}

}  // namespace weft::app
