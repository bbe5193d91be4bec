#include "agent/proxy/finder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>

#include "agent/proxy/process.h"

namespace weft::proxy {
namespace {

constexpr unsigned kNames = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR;
// A process joins its cgroup first and its namespace then: it is looked at so often before it is
// believed to be where it was seen.
constexpr int kYoung = 4;
constexpr int kMaxDepth = 32;  // of cgroups below each other; a loop cannot be

std::string proc(pid_t pid, const char* what) {
  return "/proc/" + std::to_string(pid) + "/" + what;
}

std::string line_of(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

std::vector<std::string> directories_in(const std::string& path) {
  const std::unique_ptr<DIR, CloseDirectory> directory(opendir(path.c_str()));
  std::vector<std::string> names;
  for (const dirent* entry; directory && (entry = readdir(directory.get()));)
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  return names;
}

int depth_of(const std::string& path) {
  return static_cast<int>(std::count(path.begin(), path.end(), '/'));
}

}  // namespace

Finder::Finder(std::string excluded)
    : excluded_(std::move(excluded)),
      inotify_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)),
      own_namespace_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
  struct stat info;
  if (own_namespace_ && fstat(own_namespace_.get(), &info) == 0) own_ = {info.st_dev, info.st_ino};
}

std::map<std::uint64_t, Namespace> Finder::look(const std::vector<std::string>& cgroups,
                                                bool thorough) {
  // Before the directories are read: what comes from here on is told again.
  char events[16 * 1024];
  while (inotify_ && read(inotify_.get(), events, sizeof events) > 0) continue;
  if (thorough) processes_.clear();
  found_.clear();
  directories_.clear();
  pids_.clear();
  identities_.clear();
  for (const auto& cgroup : cgroups) visit(cgroup, cgroup);
  forget_what_was_not_seen();
  return std::move(found_);
}

void Finder::visit(const std::string& directory, const std::string& cgroup) {
  struct stat info;
  if (directory == excluded_ || depth_of(directory) - depth_of(cgroup) > kMaxDepth ||
      stat(directory.c_str(), &info))
    return;
  watch(directory, info.st_ino);
  read_processes(directory, cgroup);
  for (const auto& name : directories_in(directory)) visit(directory + "/" + name, cgroup);
}

// Each before it is read. Without watches left changes are seen at the next look, as all else is.
void Finder::watch(const std::string& directory, std::uint64_t inode) {
  directories_.insert(directory);
  auto& known = watches_[directory];
  if (!inotify_ || known.inode == inode) return;
  unwatch(known);
  known.inode = inode;
  known.directory = inotify_add_watch(inotify_.get(), directory.c_str(), kNames);
  const auto events = directory + "/cgroup.events";  // "populated" changes
  known.events = inotify_add_watch(inotify_.get(), events.c_str(), IN_MODIFY);
}

// The kernel keeps watches on cgroups that were removed (seen on 6.18).
void Finder::unwatch(const Watch& watch) {
  if (watch.directory >= 0) inotify_rm_watch(inotify_.get(), watch.directory);
  if (watch.events >= 0) inotify_rm_watch(inotify_.get(), watch.events);
}

void Finder::forget_what_was_not_seen() {
  std::erase_if(watches_, [this](const auto& entry) {
    const bool gone = !directories_.contains(entry.first);
    if (gone) unwatch(entry.second);
    return gone;
  });
  std::erase_if(processes_, [this](const auto& entry) { return !pids_.contains(entry.first); });
  std::erase_if(known_, [this](const auto& entry) { return !identities_.contains(entry.first); });
}

void Finder::read_processes(const std::string& directory, const std::string& cgroup) {
  for (const auto pid : processes_in(directory)) {
    pids_.insert(pid);
    if (const auto* identity = identity_of(pid)) add(pid, *identity, cgroup);
  }
}

// Null where the process has gone meanwhile.
const Finder::Identity* Finder::identity_of(pid_t pid) {
  auto& seen = processes_[pid];
  if (seen.looks >= kYoung) return &seen.identity;
  struct stat info;
  if (stat(proc(pid, "ns/net").c_str(), &info)) {
    processes_.erase(pid);
    return nullptr;
  }
  seen.identity = {info.st_dev, info.st_ino};
  ++seen.looks;
  return &seen.identity;
}

void Finder::add(pid_t pid, const Identity& identity, const std::string& cgroup) {
  if (!identities_.insert(identity).second) return;
  auto known = known_.find(identity);
  if (known == known_.end()) {
    Namespace found;
    found.file =
        std::make_shared<base::Fd>(open(proc(pid, "ns/net").c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info;
    const bool same = *found.file && fstat(found.file->get(), &info) == 0 &&
                      Identity(info.st_dev, info.st_ino) == identity;
    if (same) found.cookie = cookie_of(found.file->get());
    if (!found.cookie) {  // gone or moved meanwhile: another process may lead there
      processes_.erase(pid);
      identities_.erase(identity);
      return;
    }
    found.process = line_of(proc(pid, "comm"));
    found.host = identity == own_;
    known = known_.emplace(identity, std::move(found)).first;
  }
  known->second.cgroup = cgroup;
  found_.emplace(known->second.cookie, known->second);
}

// 0: it cannot be asked. Goes there and comes back, which is why this has a thread of its own.
std::uint64_t Finder::cookie_of(int file) const {
  if (setns(file, CLONE_NEWNET)) return 0;
  std::uint64_t cookie = 0;
  {
    const base::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    socklen_t length = sizeof cookie;
    constexpr int kSoNetnsCookie = 71;  // SO_NETNS_COOKIE, Linux 5.14
    if (!fd || getsockopt(fd.get(), SOL_SOCKET, kSoNetnsCookie, &cookie, &length)) cookie = 0;
  }
  if (setns(own_namespace_.get(), CLONE_NEWNET)) std::abort();  // lost in somebody's namespace
  return cookie;
}

}  // namespace weft::proxy
