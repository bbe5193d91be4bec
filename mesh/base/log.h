// One line per event, key=value, or one JSON object with --log-format json. To standard error.
//
//   log::info("plan", {{"gen", 57}, {"writes", 12}, {"cause", "dir:mesh"}});
//   -> 2026-01-02T03:04:05.678Z info plan gen=57 writes=12 cause=dir:mesh
//
// Thread-safe: a line is one write(2).
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>

namespace weft::log {

enum class Format { kText, kJson };
enum class Level { kInfo, kWarning, kError };

struct Field {
  std::string_view key;
  std::string value;
  bool number = false;

  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const std::string& v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(v) {}
  template <std::integral N>
  Field(std::string_view k, N v) : key(k), value(std::to_string(v)), number(true) {}
};

void set_format(Format format);  // once, before threads start
std::string render(Format format, std::string_view time, Level level, std::string_view event,
                   std::initializer_list<Field> fields);
void write(Level level, std::string_view event, std::initializer_list<Field> fields);

inline void info(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::kInfo, event, fields);
}
inline void warning(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::kWarning, event, fields);
}
inline void error(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::kError, event, fields);
}

}  // namespace weft::log
