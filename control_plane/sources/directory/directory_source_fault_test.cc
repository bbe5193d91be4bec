// What goes wrong with directories, and what must not be lost by it.
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "control_plane/sources/directory/directory_fixture.h"
#include "mesh/base/fd.h"

namespace weft::sources {
namespace {

namespace fs = std::filesystem;

class DirectoryFault : public DirectoryFixture {};

TEST_F(DirectoryFault, AHalfWrittenFileKeepsItsLastGoodVersion) {
  write(in("web.yaml"), manifest_of("web", 80));
  start_synced();
  write(in("web.yaml"), "apiVersion: v1\nkind: Service\nmetadata: {name: web\n");
  EXPECT_TRUE(until([&] { return notices_of("web.yaml").find("rejected") != std::string::npos; }));
  EXPECT_EQ(mesh(), "web.yaml: web:80");
  write(in("web.yaml"), manifest_of("web", 81));
  EXPECT_TRUE(becomes("web.yaml: web:81"));
  EXPECT_EQ(notices_of("web.yaml"), "");
}

TEST_F(DirectoryFault, AFileThatCannotBeReadKeepsItsLastGoodVersionAndIsNamed) {
  write(in("web.yaml"), manifest_of("web"));
  start_synced();
  // Opens, is a regular file, and every read of its beginning fails.
  fs::create_symlink("/proc/self/mem", box_ + "/aside");
  fs::rename(box_ + "/aside", in("web.yaml"));
  EXPECT_TRUE(until([&] { return notices_of("web.yaml") != ""; }));
  EXPECT_EQ(notices_of("web.yaml"),
            in("web.yaml") + ": rejected: cannot be read: Input/output error\n");
  EXPECT_EQ(mesh(), "web.yaml: web:80");
}

TEST_F(DirectoryFault, AFileOver64MegabytesIsRejectedUnread) {
  write(in("web.yaml"), manifest_of("web"));
  start_synced();
  std::ofstream(box_ + "/aside").close();
  ASSERT_EQ(truncate((box_ + "/aside").c_str(), 1 << 30), 0);  // sparse
  fs::rename(box_ + "/aside", in("web.yaml"));
  EXPECT_TRUE(until([&] { return notices_of("web.yaml") != ""; }));
  EXPECT_EQ(notices_of("web.yaml"), in("web.yaml") + ": rejected: is over 64 MB: split it\n");
  EXPECT_EQ(mesh(), "web.yaml: web:80");
}

TEST_F(DirectoryFault, ANamedPipeIsNoManifestAndHangsNobody) {
  ASSERT_EQ(mkfifo(in("pipe.yaml").c_str(), 0600), 0);
  start_synced();
  write(in("web.yaml"), manifest_of("web"));
  becomes("web.yaml: web:80");
}

TEST_F(DirectoryFault, ADirectoryThatVanishesTakesItsUnitsAndComesBack) {
  fs::create_directory(in("sub"));
  write(in("a.yaml"), manifest_of("a"));
  write(in("sub/b.yaml"), manifest_of("b"));
  start_synced();
  for (const bool moved : {true, false}) {
    if (moved)
      fs::rename(root_, box_ + "/away");
    else
      fs::remove_all(root_);
    EXPECT_TRUE(until([&] { return source_->status().error != ""; }));
    EXPECT_NE(source_->status().error.find("directory " + root_ + " is gone"), std::string::npos)
        << source_->status().error;
    EXPECT_EQ(mesh(), "");
    EXPECT_TRUE(source_->status().synced);
    if (moved) {
      fs::rename(box_ + "/away", root_);
    } else {
      fs::create_directories(in("sub"));
      write(in("a.yaml"), manifest_of("a"));
      write(in("sub/b.yaml"), manifest_of("b"));
    }
    EXPECT_TRUE(becomes("a.yaml: a:80; sub/b.yaml: b:80"));
    EXPECT_EQ(source_->status().error, "");
    replace(in("sub/b.yaml"), manifest_of("b", 81));
    EXPECT_TRUE(becomes("a.yaml: a:80; sub/b.yaml: b:81"));
    replace(in("sub/b.yaml"), manifest_of("b", 80));
    EXPECT_TRUE(becomes("a.yaml: a:80; sub/b.yaml: b:80"));
  }
}

TEST_F(DirectoryFault, ADirectoryThatIsNotThereIsAwaitedAndNotSynced) {
  fs::remove(root_);
  start();
  EXPECT_TRUE(until([&] { return batches_ > 0; }));
  EXPECT_FALSE(source_->status().synced);
  EXPECT_NE(source_->status().error.find(root_), std::string::npos);
  fs::create_directory(root_);
  write(in("a.yaml"), manifest_of("a"));
  EXPECT_TRUE(becomes("a.yaml: a:80"));
  EXPECT_TRUE(source_->status().synced);
}

TEST_F(DirectoryFault, AParentThatVanishesTooIsAwaited) {
  fs::create_directories(box_ + "/outer/inner");
  root_ = box_ + "/outer/inner";
  write(in("a.yaml"), manifest_of("a"));
  start_synced();
  fs::rename(box_ + "/outer", box_ + "/away");
  EXPECT_TRUE(until([&] { return units_.empty(); }));
  EXPECT_NE(source_->status().error, "");
  fs::rename(box_ + "/away", box_ + "/outer");
  EXPECT_TRUE(becomes("a.yaml: a:80"));
  EXPECT_EQ(source_->status().error, "");
}

TEST_F(DirectoryFault, ARootThatIsAFileSaysSo) {
  fs::remove(root_);
  write(root_, "x");
  start();
  EXPECT_TRUE(until([&] { return batches_ > 0; }));
  EXPECT_FALSE(source_->status().synced);
  EXPECT_NE(source_->status().error.find("is not a directory"), std::string::npos)
      << source_->status().error;
}

TEST_F(DirectoryFault, LostEventsAreMadeUpForByLookingAtEverything) {
  for (const char* name : {"a", "b", "c"})
    write(in(std::string(name) + ".yaml"), manifest_of(name));
  start_synced();
  std::ifstream limit("/proc/sys/fs/inotify/max_queued_events");
  long queued = 0;
  limit >> queued;
  ASSERT_GT(queued, 0);
  // Two names in turn, since equal events in a row are one to the kernel.
  for (long i = 0; i <= queued / 2; ++i)
    for (const char* name : {"/x.yaml", "/y.yaml"})
      base::Fd(open((root_ + name).c_str(), O_WRONLY | O_CREAT, 0600));
  fs::remove(in("a.yaml"));
  fs::create_directory(in("sub"));
  write(in("sub/d.yaml"), manifest_of("d"));
  write(in("b.yaml"), manifest_of("b", 81));
  EXPECT_TRUE(becomes("b.yaml: b:81; c.yaml: c:80; sub/d.yaml: d:80; x.yaml:; y.yaml:"));
  replace(in("sub/d.yaml"), manifest_of("d", 81));
  becomes("b.yaml: b:81; c.yaml: c:80; sub/d.yaml: d:81; x.yaml:; y.yaml:");
}

TEST_F(DirectoryFault, AFileTruncatedByAWriterIsNotTakenForEmptyByAScan) {
  write(in("web.yaml"), manifest_of("web", 80));
  start_synced();
  std::ofstream writer(in("web.yaml"));         // truncates, and writes nothing yet
  fs::create_symlink("nowhere", in("..data"));  // looks at everything
  write(in("mark.yaml"), manifest_of("mark"));
  EXPECT_TRUE(becomes("mark.yaml: mark:80; web.yaml: web:80"));
  writer << manifest_of("web", 81);
  writer.close();
  becomes("mark.yaml: mark:80; web.yaml: web:81");
}

TEST_F(DirectoryFault, ASourceMayGoBeforeItWasEverRun) {
  start();
  source_.reset();
  control_.run_for(std::chrono::milliseconds(1));
  EXPECT_EQ(batches_, 0);
}

bool write_once(const char* path, const std::string& text) {
  const base::Fd fd(open(path, O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// In a user namespace of its own, whose limits are nobody else's.
class NoWatchesLeft : public DirectoryFixture {
 protected:
  // 0: all was as it should be.
  int follow_with_watches(int watches) {
    if (unshare(CLONE_NEWUSER) ||
        !write_once("/proc/sys/user/max_inotify_watches", std::to_string(watches)))
      return 2;
    fs::create_directory(in("sub"));
    write(in("sub/a.yaml"), manifest_of("a"));
    start();
    const bool read = until([&] { return mesh() == "sub/a.yaml: a:80"; });
    const bool named =
        source_->status().error.find("fs.inotify.max_user_watches") != std::string::npos;
    replace(in("sub/a.yaml"), manifest_of("a", 81));
    const bool followed = until([&] { return mesh() == "sub/a.yaml: a:81"; });
    fs::remove(in("sub/a.yaml"));
    const bool forgotten = until([&] { return mesh().empty(); });
    return read && named && followed && forgotten ? 0 : 1;
  }
};

TEST_F(NoWatchesLeft, IsSaidWithTheSettingToRaiseAndChangesAreLookedFor) {
  for (const int watches : {0, 2}) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) _exit(follow_with_watches(watches));
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0)
        << "with " << watches << " watches (2: no user namespace to try it in)";
    fs::remove_all(in("sub"));
  }
}

}  // namespace
}  // namespace weft::sources
