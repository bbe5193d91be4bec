// A cgroup v2 directory of a test's own, wherever cgroup2 is mounted; removed with what runs in it.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>

namespace weft::proxy {

class TestCgroup {
 public:
  TestCgroup() {
    static std::atomic<int> count = 0;
    name_ = "weft-test-" + std::to_string(getpid()) + "-" + std::to_string(count++);
    path_ = mount() + "/" + name_;
    std::error_code error;
    std::filesystem::create_directory(path_, error);
    if (error) ADD_FAILURE() << "cannot make " << path_ << ": " << error.message();
  }
  ~TestCgroup() {
    std::error_code ignored;
    for (int i = 0; i < 6000 && std::filesystem::exists(path_, ignored); ++i) {
      end_below(path_);
      usleep(10000);
    }
  }
  TestCgroup(const TestCgroup&) = delete;
  TestCgroup& operator=(const TestCgroup&) = delete;

  const std::string& path() const { return path_; }
  const std::string& name() const { return name_; }

 private:
  static std::string mount() {
    std::ifstream mounts("/proc/self/mounts");
    for (std::string what, where, type, rest; mounts >> what >> where >> type;) {
      std::getline(mounts, rest);
      if (type == "cgroup2") return where;
    }
    ADD_FAILURE() << "no cgroup2 is mounted";
    return "/nowhere";
  }
  static void end_below(const std::filesystem::path& path) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(path, ignored))
      if (entry.is_directory(ignored)) end_below(entry.path());
    std::ifstream procs(path / "cgroup.procs");
    for (pid_t pid = 0; procs >> pid;)
      if (pid > 0) ::kill(pid, SIGKILL);
    ::rmdir(path.c_str());
  }

  std::string name_, path_;
};

}  // namespace weft::proxy
