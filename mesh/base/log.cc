#include "mesh/base/log.h"

#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>

namespace weft::log {
namespace {

Format g_format = Format::kText;

const char* level_name(Level level) {
  switch (level) {
    case Level::kInfo:
      return "info";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      break;
  }
  return "error";
}

// Values come from manifests and the kernel: no control character may break a line or a terminal.
std::string escaped(std::string_view value) {
  std::string out;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", byte);
      out += code;
    } else {
      out += c;
    }
  }
  return out;
}

bool needs_quotes(std::string_view value) {
  if (value.empty()) return true;
  for (const char c : value)
    if (static_cast<unsigned char>(c) <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f)
      return true;
  return false;
}

std::string now() {
  timeval time;
  gettimeofday(&time, nullptr);
  std::tm utc;
  gmtime_r(&time.tv_sec, &utc);
  char text[40];
  const auto length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + length, sizeof text - length, ".%03dZ",
                static_cast<int>(time.tv_usec / 1000));
  return text;
}

}  // namespace

void set_format(Format format) { g_format = format; }

std::string render(Format format, std::string_view time, Level level, std::string_view event,
                   std::initializer_list<Field> fields) {
  std::string line;
  if (format == Format::kJson) {
    line = "{\"time\":\"" + std::string(time) + "\",\"level\":\"" + level_name(level) +
           "\",\"event\":\"" + escaped(event) + '"';
    for (const auto& field : fields)
      line += ",\"" + escaped(field.key) +
              "\":" + (field.number ? field.value : '"' + escaped(field.value) + '"');
    return line + "}\n";
  }
  line = std::string(time) + ' ' + level_name(level) + ' ' + std::string(event);
  for (const auto& field : fields) {
    line += ' ' + std::string(field.key) + '=';
    line += needs_quotes(field.value) ? '"' + escaped(field.value) + '"' : field.value;
  }
  return line + '\n';
}

void write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  const std::string line = render(g_format, now(), level, event, fields);
  // A log that cannot be written has nobody to be reported to.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace weft::log
