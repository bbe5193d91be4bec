// Network namespaces, found by who is in them: those of the processes in some cgroups and below.
// One look at a time; who looks again and when is namespaces.h's. One thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "mesh/base/fd.h"

namespace weft::proxy {

struct Namespace {
  std::uint64_t cookie = 0;
  std::shared_ptr<const base::Fd> file;  // /proc/PID/ns/net; holds the namespace
  std::string cgroup;                    // of those that were asked about
  std::string process;                   // what the first process found in it calls itself
  bool host = false;                     // this process's own
};

class Finder {
 public:
  // What lies at or below `excluded` counts for nothing.
  explicit Finder(std::string excluded);

  // Those with a process now, by cookie. Where two of the cgroups have one in common the first has
  // it. All processes are looked at again where `thorough`: else those that were known are taken to
  // be where they were (one can move to another namespace, or its number be another's).
  std::map<std::uint64_t, Namespace> look(const std::vector<std::string>& cgroups, bool thorough);

  // Readable when cgroups below those of the last look came, went, or got their first process or
  // lost their last; -1: nobody tells. A look reads it empty.
  int told() const { return inotify_.get(); }

 private:
  using Identity = std::pair<std::uint64_t, std::uint64_t>;  // device and inode of the nsfs file
  struct Watch {
    std::uint64_t inode = 0;
    int directory = -1, events = -1;
  };

  void visit(const std::string& directory, const std::string& cgroup);
  void watch(const std::string& directory, std::uint64_t inode);
  void unwatch(const Watch& watch);
  void forget_what_was_not_seen();
  void read_processes(const std::string& directory, const std::string& cgroup);
  const Identity* identity_of(pid_t pid);
  void add(pid_t pid, const Identity& identity, const std::string& cgroup);
  std::uint64_t cookie_of(int file) const;

  const std::string excluded_;
  base::Fd inotify_, own_namespace_;
  Identity own_{};
  std::map<std::string, Watch> watches_;  // by path of the directory
  struct Seen {
    Identity identity;
    int looks = 0;
  };
  std::map<pid_t, Seen> processes_;
  std::map<Identity, Namespace> known_;  // with a process, at the last look
  // Of the look that goes on.
  std::map<std::uint64_t, Namespace> found_;
  std::set<std::string> directories_;
  std::set<pid_t> pids_;
  std::set<Identity> identities_;
};

}  // namespace weft::proxy
