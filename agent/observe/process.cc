#include "agent/observe/process.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <memory>
#include <sstream>

namespace weft::observe {
namespace {

std::uint64_t open_descriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir("/proc/self/fd"), closedir);
  if (!dir) return 0;
  std::uint64_t count = 0;
  while (const dirent* entry = readdir(dir.get())) count += entry->d_name[0] != '.';
  return count ? count - 1 : 0;  // opendir's own
}

double seconds(const timeval& time) { return time.tv_sec + time.tv_usec * 1e-6; }

// Field 22 of /proc/self/stat is the start in ticks after boot (proc(5)).
double start_time() {
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  const auto name_end = text.rfind(')');  // the second field may hold spaces
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  double ticks = 0;
  fields >> ticks;
  timespec now{}, since_boot{};
  clock_gettime(CLOCK_REALTIME, &now);
  clock_gettime(CLOCK_BOOTTIME, &since_boot);
  const auto in_seconds = [](const timespec& t) { return t.tv_sec + t.tv_nsec * 1e-9; };
  return in_seconds(now) - in_seconds(since_boot) + ticks / sysconf(_SC_CLK_TCK);
}

}  // namespace

ProcessReading read_process() {
  ProcessReading reading;
  rusage usage{};
  if (!getrusage(RUSAGE_SELF, &usage))
    reading.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  static const double kStart = start_time();  // computed once: clocks drift against each other
  reading.start_time_seconds = kStart;
  std::uint64_t pages = 0, resident_pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident_pages;
  const std::uint64_t page = sysconf(_SC_PAGESIZE);
  reading.virtual_bytes = pages * page;
  reading.resident_bytes = resident_pages * page;
  reading.open_fds = open_descriptors();
  rlimit limit{};
  if (!getrlimit(RLIMIT_NOFILE, &limit)) reading.max_fds = limit.rlim_cur;
  return reading;
}

}  // namespace weft::observe
