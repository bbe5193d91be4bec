// On plain directories: inotify tells of them as it does of cgroups. With TMPDIR on a cgroup2 mount
// the same tests run on cgroups, but for the one that renames.
#include "agent/node/cgroup_watcher.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace weft::node {
namespace {

namespace fs = std::filesystem;

std::string uid(int number) {
  const std::string digits = std::to_string(number);
  return "00000000-0000-0000-0000-" + std::string(12 - digits.size(), '0') + digits;
}

std::uint64_t inode(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
  return info.st_ino;
}

// In memory unless TMPDIR says otherwise: thousands of directories are slow on a disk.
fs::path somewhere() {
  const bool memory = !std::getenv("TMPDIR") && fs::is_directory("/dev/shm");
  return memory ? fs::path("/dev/shm") : fs::temp_directory_path();
}

void make(const std::string& path) { ASSERT_EQ(mkdir(path.c_str(), 0755), 0) << path; }
// The directory and those below it; files in a cgroup go with it.
void remove(const std::string& path) {
  std::vector<std::string> below;
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.is_directory() && !entry.is_symlink()) below.push_back(entry.path());
  for (const auto& directory : below) remove(directory);
  ASSERT_EQ(rmdir(path.c_str()), 0) << path;
}

class CgroupWatcherTest : public testing::Test {
 protected:
  CgroupWatcherTest() {
    std::string pattern = somewhere() / "weft-cgroups-XXXXXX";
    box_ = mkdtemp(pattern.data());
    root_ = box_ + "/kubepods";
    make(root_);
  }
  ~CgroupWatcherTest() override {
    watcher_.reset();
    remove(box_);
  }

  // The path of a pod, in a directory of a QoS class where one is named.
  std::string pod(int number, const std::string& qos = "") const {
    return root_ + (qos.empty() ? "" : "/" + qos) + "/pod" + uid(number);
  }

  absl::Status start() {
    auto watcher = CgroupWatcher::start(
        io_, root_,
        {[this](const PodCgroup& p) {
           EXPECT_TRUE(pods_.emplace(p.path, p).second) << p.path << " appeared twice";
           log_ += "+" + std::to_string(std::stoi(p.uid.substr(24))) + " ";
         },
         [this](const PodCgroup& p) {
           EXPECT_TRUE(pods_.contains(p.path) && pods_[p.path] == p) << p.path;
           pods_.erase(p.path);
           log_ += "-" + std::to_string(std::stoi(p.uid.substr(24))) + " ";
         }});
    if (watcher.ok()) watcher_ = *std::move(watcher);
    return watcher.status();
  }

  // Whether it became so. The guard is against hanging only.
  bool until(const std::function<bool()>& condition) {
    const auto guard = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition() && std::chrono::steady_clock::now() < guard)
      io_.run_one_for(std::chrono::milliseconds(100));
    return condition();
  }
  // Takes in what inotify has told so far: its events are there when the system call returns.
  void settle() {
    while (io_.poll()) {
    }
  }
  std::string log() { return std::exchange(log_, ""); }
  std::string changes() {
    settle();
    return log();
  }

  std::string box_, root_, log_;
  std::map<std::string, PodCgroup> pods_;  // by path
  boost::asio::io_context io_;
  std::unique_ptr<CgroupWatcher> watcher_;
};

TEST_F(CgroupWatcherTest, TellsOfWhatIsThereBeforeStartReturns) {
  make(root_ + "/burstable");
  make(root_ + "/besteffort");
  make(pod(1));
  make(pod(2, "burstable"));
  make(pod(3, "besteffort"));
  ASSERT_TRUE(start().ok());
  ASSERT_EQ(pods_.size(), 3u);
  for (const auto& path : {pod(1), pod(2, "burstable"), pod(3, "besteffort")}) {
    EXPECT_EQ(pods_[path].path, path);
    EXPECT_EQ(pods_[path].id, inode(path));
  }
  EXPECT_EQ(pods_[pod(2, "burstable")].uid, uid(2));
  EXPECT_EQ(watcher_->error(), "");
}

TEST_F(CgroupWatcherTest, SystemdsNamesAreFollowedToo) {
  const std::string qos = root_ + "/kubepods-burstable.slice";
  make(qos);
  ASSERT_TRUE(start().ok());
  make(qos + "/kubepods-burstable-pod00000000_0000_0000_0000_000000000004.slice");
  make(root_ + "/kubepods-pod00000000000000000000000000000005.slice");
  EXPECT_TRUE(until([&] { return pods_.size() == 2; }));
  EXPECT_EQ(log(), "+4 +5 ");
}

TEST_F(CgroupWatcherTest, TellsOfPodsThatComeAndGo) {
  make(root_ + "/burstable");
  ASSERT_TRUE(start().ok());
  make(pod(1));
  EXPECT_EQ(changes(), "+1 ");
  make(pod(2, "burstable"));
  EXPECT_EQ(changes(), "+2 ");
  EXPECT_EQ(pods_[pod(2, "burstable")].id, inode(pod(2, "burstable")));
  remove(pod(1));
  EXPECT_EQ(changes(), "-1 ");
  remove(pod(2, "burstable"));
  EXPECT_EQ(changes(), "-2 ");
  EXPECT_TRUE(pods_.empty());
}

TEST_F(CgroupWatcherTest, AQosDirectoryMayComeLaterAndGo) {
  ASSERT_TRUE(start().ok());
  make(root_ + "/burstable");
  make(pod(1, "burstable"));
  make(pod(2, "burstable"));
  settle();
  EXPECT_EQ(pods_.size(), 2u);
  make(pod(3, "burstable"));
  settle();
  EXPECT_EQ(pods_.size(), 3u);
  remove(root_ + "/burstable");
  settle();
  EXPECT_TRUE(pods_.empty());
  // Another directory under the same name.
  log();
  make(root_ + "/burstable");
  EXPECT_EQ(changes(), "");
  make(pod(4, "burstable"));
  EXPECT_EQ(changes(), "+4 ");
}

TEST_F(CgroupWatcherTest, AQosDirectoryReplacedAtOnceIsFollowed) {
  make(root_ + "/burstable");
  make(pod(1, "burstable"));
  ASSERT_TRUE(start().ok());
  remove(root_ + "/burstable");
  make(root_ + "/burstable");
  make(pod(2, "burstable"));
  settle();
  EXPECT_EQ(pods_.size(), 1u);
  make(pod(3, "burstable"));
  settle();
  EXPECT_EQ(pods_.size(), 2u);
  EXPECT_TRUE(pods_.contains(pod(2, "burstable")) && pods_.contains(pod(3, "burstable")));
}

TEST_F(CgroupWatcherTest, APodReplacedUnderItsNameIsGoneFirst) {
  make(pod(1));
  ASSERT_TRUE(start().ok());
  const auto before = pods_[pod(1)].id;
  EXPECT_EQ(log(), "+1 ");
  // The next one is made before the first is gone, or the file system may use its inode again.
  struct statfs type {};
  ASSERT_EQ(statfs(root_.c_str(), &type), 0);
  if (type.f_type == 0x63677270) {  // CGROUP2_SUPER_MAGIC: no rename, and no inode twice
    remove(pod(1));
    make(pod(1));
  } else {
    make(box_ + "/next");
    fs::rename(pod(1), box_ + "/last");
    fs::rename(box_ + "/next", pod(1));
  }
  EXPECT_EQ(changes(), "-1 +1 ");
  EXPECT_NE(pods_[pod(1)].id, before);
  EXPECT_EQ(pods_[pod(1)].id, inode(pod(1)));
}

TEST_F(CgroupWatcherTest, WhatIsNoPodOrLiesDeeperIsPassedOver) {
  ASSERT_TRUE(start().ok());
  make(root_ + "/burstable");
  make(root_ + "/burstable/deeper");
  make(root_ + "/burstable/deeper/pod" + uid(1));
  make(pod(2));
  make(pod(2) + "/pod" + uid(3));
  make(pod(2) + "/cri-containerd-0123.scope");
  EXPECT_EQ(changes(), "+2 ");
  watcher_.reset();
  pods_.clear();
  ASSERT_TRUE(start().ok());
  EXPECT_EQ(log(), "+2 ");
}

TEST_F(CgroupWatcherTest, ManyChangesAtOnceEndAsTheDirectoriesAre) {
  make(root_ + "/burstable");
  ASSERT_TRUE(start().ok());
  std::mt19937 random(7);
  std::set<std::string> there;
  for (int round = 0; round < 30; ++round) {
    for (int i = 0; i < 50; ++i) {
      const auto path = pod(static_cast<int>(random() % 20), random() % 2 ? "burstable" : "");
      if (there.erase(path))
        remove(path);
      else
        make(*there.insert(path).first);
      if (random() % 10 == 0) io_.poll_one();
    }
    settle();
    std::set<std::string> told;
    for (const auto& [path, known] : pods_) {
      EXPECT_EQ(known.id, inode(path));
      told.insert(path);
    }
    ASSERT_EQ(told, there);
  }
}

TEST_F(CgroupWatcherTest, NothingIsMissedBetweenWatchingAndLooking) {
  for (int round = 0; round < 20; ++round) {
    std::thread kubelet([&] {
      for (int i = 0; i < 10; ++i) {
        const auto qos = "qos-" + std::to_string(round) + "-" + std::to_string(i);
        make(root_ + "/" + qos);
        make(pod(1, qos));
      }
    });
    ASSERT_TRUE(start().ok());
    kubelet.join();
    settle();
    EXPECT_EQ(pods_.size(), 10u * static_cast<unsigned>(round + 1));
    watcher_.reset();
    if (HasFailure()) break;
    pods_.clear();
  }
}

TEST_F(CgroupWatcherTest, ARootThatIsNotThereIsRefused) {
  root_ += "/none";
  const auto status = start();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(status.message()).find("cannot watch the cgroups of pods below " + root_),
            std::string::npos)
      << status;
  root_ = box_ + "/kubepods";
}

TEST_F(CgroupWatcherTest, ARootThatGoesTakesItsPodsAndMayComeBack) {
  make(root_ + "/burstable");
  make(pod(1, "burstable"));
  root_ += "/";  // as people write it
  ASSERT_TRUE(start().ok());
  root_.pop_back();
  EXPECT_EQ(log(), "+1 ");
  remove(root_);
  EXPECT_EQ(changes(), "-1 ");
  EXPECT_EQ(watcher_->error(),
            root_ + " is gone: no pod is known; until then it is looked at every second");
  make(root_);
  make(pod(2));
  EXPECT_EQ(changes(), "+2 ");
  EXPECT_EQ(watcher_->error(), "");
  make(pod(3));
  EXPECT_EQ(changes(), "+3 ");
}

TEST_F(CgroupWatcherTest, MayBeDestroyedWithEventsOnTheirWay) {
  ASSERT_TRUE(start().ok());
  make(pod(1));
  io_.run_one_for(std::chrono::milliseconds(1));
  make(pod(2));
  watcher_.reset();
  log();
  EXPECT_EQ(changes(), "");
}

TEST_F(CgroupWatcherTest, DroppedEventsMakeItReadEverythingAgain) {
  make(root_ + "/burstable");
  make(pod(1, "burstable"));
  ASSERT_TRUE(start().ok());
  EXPECT_EQ(log(), "+1 ");
  int queue = 0;
  std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> queue;
  ASSERT_GT(queue, 0);
  for (int i = 0; i <= queue; i += 2) {  // each makes two events
    make(root_ + "/x");
    ASSERT_EQ(rmdir((root_ + "/x").c_str()), 0);
  }
  make(pod(2));
  remove(pod(1, "burstable"));
  make(pod(3, "burstable"));
  EXPECT_TRUE(
      until([&] { return pods_.contains(pod(2)) && !pods_.contains(pod(1, "burstable")); }));
  settle();
  EXPECT_EQ(pods_.size(), 2u);
  EXPECT_TRUE(pods_.contains(pod(3, "burstable")));
  EXPECT_EQ(watcher_->error(), "");
}

// In a process and a user namespace of its own, where inotify may have no more than this.
template <class Body>
bool with_limit(const std::string& name, Body body) {
  const pid_t child = fork();
  if (child == 0) {
    const auto limit = [&](int value) {
      std::ofstream file("/proc/sys/user/" + name);
      file << value << std::flush;
      if (!file) std::fprintf(stderr, "cannot write /proc/sys/user/%s\n", name.c_str());
      return static_cast<bool>(file);
    };
    if (unshare(CLONE_NEWUSER)) {
      std::perror("cannot make a user namespace, which this test needs");
      _exit(1);
    }
    body(limit);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

TEST_F(CgroupWatcherTest, WithoutWatchesItLooksEverySecondUntilThereAreSome) {
  make(root_ + "/burstable");
  EXPECT_TRUE(with_limit("max_inotify_watches", [&](const auto& limit) {
    // The parent's and the root's; the QoS directory goes without.
    ASSERT_TRUE(limit(2));
    const auto began = std::chrono::steady_clock::now();
    ASSERT_TRUE(start().ok());
    EXPECT_EQ(watcher_->error(), "cannot watch " + root_ +
                                     "/burstable: raise fs.inotify.max_user_watches; until then it "
                                     "is looked at every second");
    make(pod(1, "burstable"));
    const auto told = changes();
    // Else the second may be over.
    if (std::chrono::steady_clock::now() - began < std::chrono::seconds(1)) {
      EXPECT_EQ(told, "");
    }
    EXPECT_TRUE(until([&] { return pods_.size() == 1; }));
    EXPECT_NE(watcher_->error(), "");
    remove(pod(1, "burstable"));
    EXPECT_TRUE(until([&] { return pods_.empty(); }));
    ASSERT_TRUE(limit(100));
    EXPECT_TRUE(until([&] { return watcher_->error().empty(); }));
    log();
    make(pod(2, "burstable"));
    EXPECT_EQ(changes(), "+2 ");
    EXPECT_FALSE(io_.poll_one());  // no clock any more
  }));
}

TEST_F(CgroupWatcherTest, WithoutInotifyItLooksEverySecondUntilThereIsOne) {
  make(pod(1));
  EXPECT_TRUE(with_limit("max_inotify_instances", [&](const auto& limit) {
    ASSERT_TRUE(limit(0));
    ASSERT_TRUE(start().ok());
    EXPECT_EQ(log(), "+1 ");
    EXPECT_EQ(watcher_->error(),
              "cannot start inotify: Too many open files (raise fs.inotify.max_user_instances); "
              "until then it is looked at every second");
    make(pod(2));
    EXPECT_TRUE(until([&] { return pods_.size() == 2; }));
    ASSERT_TRUE(limit(10));
    EXPECT_TRUE(until([&] { return watcher_->error().empty(); }));
    log();
    make(pod(3));
    EXPECT_EQ(changes(), "+3 ");
  }));
}

}  // namespace
}  // namespace weft::node
