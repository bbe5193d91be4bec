#include "agent/kernel/libbpf_log.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>

namespace weft::kernel {
namespace {

constexpr std::size_t kKept = 4096;
thread_local std::string g_said;

int keep(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  char line[1024];
  vsnprintf(line, sizeof line, format, arguments);
  g_said += line;
  if (g_said.size() > kKept) g_said.erase(0, g_said.size() - kKept);
  return 0;
}

}  // namespace

LibbpfLog::LibbpfLog() {
  libbpf_set_print(keep);
  g_said.clear();
}

const std::string& LibbpfLog::text() const { return g_said; }

}  // namespace weft::kernel
