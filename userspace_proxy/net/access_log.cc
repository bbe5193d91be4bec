#include "userspace_proxy/net/access_log.h"

#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

namespace weft::net {
namespace {

constexpr std::size_t kBlock = 16 * 1024;

std::string now_text() {
  timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  tm utc;
  gmtime_r(&time.tv_sec, &utc);
  char text[40];
  const auto length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + length, sizeof text - length, ".%03ldZ", time.tv_nsec / 1000000);
  return text;
}

// Nobody can end the line or the quotes with what he sent.
std::string escaped(std::string_view text) {
  if (text.empty()) return "-";
  std::string out;
  for (const unsigned char c : text) {
    if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
      out += static_cast<char>(c);
    } else {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", c);
      out += code;
    }
  }
  return out;
}

std::string text_line(const LogEntry& e, const LogOutcome& o) {
  char middle[160];
  std::snprintf(middle, sizeof middle, " HTTP/1.%u\" %u %s %llu %llu %.3f %u ", e.minor, o.status,
                to_text(o.flags).c_str(), static_cast<unsigned long long>(o.bytes_in),
                static_cast<unsigned long long>(o.bytes_out), o.duration_ms, o.attempts);
  return "[" + now_text() + "] \"" + escaped(e.method) + " " + escaped(e.path) + middle + "\"" +
         escaped(e.user_agent) + "\" \"" + escaped(e.request_id) + "\" \"" + escaped(e.authority) +
         "\" \"" + escaped(e.upstream) + "\" \"" + escaped(e.route) + "\"\n";
}

std::string json_line(const LogEntry& e, const LogOutcome& o) {
  const nlohmann::json line = {{"time", now_text()},
                               {"method", e.method},
                               {"path", e.path},
                               {"authority", e.authority},
                               {"protocol", e.minor ? "HTTP/1.1" : "HTTP/1.0"},
                               {"status", o.status},
                               {"flags", to_text(o.flags)},
                               {"bytes_received", o.bytes_in},
                               {"bytes_sent", o.bytes_out},
                               {"duration_ms", o.duration_ms},
                               {"attempts", o.attempts},
                               {"user_agent", e.user_agent},
                               {"request_id", e.request_id},
                               {"upstream", e.upstream},
                               {"route", e.route}};
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

void AccessLog::write(const LogEntry& entry, const LogOutcome& outcome) {
  lines_ += format_ == Format::kText ? text_line(entry, outcome) : json_line(entry, outcome);
  if (lines_.size() >= kBlock) flush();
}

void AccessLog::flush() {
  std::string_view rest = lines_;
  while (!rest.empty()) {
    const auto written = ::write(fd_, rest.data(), rest.size());
    if (written <= 0) break;  // a log that cannot be written loses lines, not requests
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  lines_.clear();
}

}  // namespace weft::net
