// Changes as people, editors and controllers make them.
#include <sys/stat.h>

#include <fstream>

#include "control_plane/sources/directory/directory_fixture.h"

namespace weft::sources {
namespace {

namespace fs = std::filesystem;

class Directory : public DirectoryFixture {};

TEST_F(Directory, IsReadWholeAtTheStart) {
  fs::create_directories(in("a/b"));
  write(in("web.yaml"), manifest_of("web"));
  write(in("a/api.yml"), manifest_of("api"));
  write(
      in("a/b/db.json"),
      R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"db"},"spec":{"ports":[{"port":5432}]}})");
  write(in("README.md"), "not a manifest");
  start();
  EXPECT_TRUE(until([&] { return batches_ > 0; }));
  EXPECT_EQ(mesh(), "a/api.yml: api:80; a/b/db.json: db:5432; web.yaml: web:80");
  EXPECT_EQ(batches_, 1);
  EXPECT_TRUE(source_->status().synced);
  EXPECT_EQ(source_->status().error, "");
  EXPECT_EQ(source_->status().updates, 3u);
}

TEST_F(Directory, ThatIsEmptyIsSynced) {
  start();
  EXPECT_TRUE(until([&] { return batches_ > 0; }));
  EXPECT_TRUE(source_->status().synced);
}

TEST_F(Directory, NamesWithADotInFrontArePassedOver) {
  fs::create_directory(in(".hidden"));
  write(in(".hidden/a.yaml"), manifest_of("a"));
  write(in(".web.yaml.swp"), "x");
  write(in(".web.yaml"), manifest_of("web"));
  start_synced();
  write(in(".later.yaml"), manifest_of("later"));
  write(in("seen.yaml"), manifest_of("seen"));
  becomes("seen.yaml: seen:80");
}

TEST_F(Directory, FollowsAnAtomicRename) {
  write(in("web.yaml"), manifest_of("web", 80));
  start_synced();
  const auto before = Clock::now();
  replace(in("web.yaml"), manifest_of("web", 81));
  EXPECT_TRUE(becomes("web.yaml: web:81"));
  EXPECT_EQ(batches_, 1);
  EXPECT_GE(first_event_, before);
  EXPECT_LE(first_event_, Clock::now());
}

TEST_F(Directory, ReadsAFileWhenItIsClosedAndNotBefore) {
  start_synced();
  const auto text = manifest_of("web");
  std::ofstream file(in("web.yaml"));
  file << text.substr(0, 30) << std::flush;
  chmod(in("web.yaml").c_str(), 0600);  // editors do that half way
  settle();
  EXPECT_EQ(reads(), 0u);
  file << text.substr(30);
  file.close();
  becomes("web.yaml: web:80");
}

TEST_F(Directory, SeesAWriteOfTheSameSizeInTheSameTick) {
  write(in("web.yaml"), manifest_of("web", 80));
  start_synced();
  for (int port = 81; port < 99; ++port) {
    write(in("web.yaml"), manifest_of("web", port));
    ASSERT_TRUE(becomes("web.yaml: web:" + std::to_string(port)));
  }
}

TEST_F(Directory, ReadsOnlyTheFileThatChanged) {
  for (int i = 0; i < 50; ++i)
    write(in("s" + std::to_string(i) + ".yaml"), manifest_of("s" + std::to_string(i)));
  start_synced();
  replace(in("s7.yaml"), manifest_of("s7", 81));
  EXPECT_TRUE(until([&] { return batches_ > 0; }));
  EXPECT_EQ(reads(), 1u);
  EXPECT_EQ(published_, std::vector<std::string>{in("s7.yaml")});
}

TEST_F(Directory, PublishesNothingForTheSameBytes) {
  write(in("web.yaml"), manifest_of("web"));
  start_synced();
  replace(in("web.yaml"), manifest_of("web"));
  EXPECT_TRUE(until([&] { return reads() > 0; }));
  EXPECT_EQ(published_.size(), 0u);
  EXPECT_EQ(batches_, 0);
}

TEST_F(Directory, PublishesABurstAsOneBatchAndEveryFileOnce) {
  start_synced();
  for (int round = 0; round < 3; ++round)
    for (int i = 0; i < 100; ++i)
      replace(in("s" + std::to_string(i) + ".yaml"), manifest_of("s", 80 + round));
  EXPECT_TRUE(until([&] { return batches_ > 0; }));
  EXPECT_EQ(batches_, 1);
  EXPECT_EQ(published_.size(), 100u);
  EXPECT_EQ(reads(), 100u);
}

TEST_F(Directory, ForgetsAFileThatIsRemovedOrMovedAway) {
  for (const char* name : {"a", "b", "c"})
    write(in(std::string(name) + ".yaml"), manifest_of(name));
  start_synced();
  fs::remove(in("a.yaml"));
  fs::rename(in("b.yaml"), box_ + "/b.yaml");
  EXPECT_TRUE(becomes("c.yaml: c:80"));
  fs::rename(in("c.yaml"), in("c.yaml.bak"));
  becomes("");
}

TEST_F(Directory, FollowsASubdirectoryMovedInWithContent) {
  fs::create_directories(box_ + "/aside-dir/deep");
  write(box_ + "/aside-dir/deep/a.yaml", manifest_of("a"));
  start_synced();
  fs::rename(box_ + "/aside-dir", in("sub"));
  EXPECT_TRUE(becomes("sub/deep/a.yaml: a:80"));
  replace(in("sub/deep/b.yaml"), manifest_of("b"));
  EXPECT_TRUE(becomes("sub/deep/a.yaml: a:80; sub/deep/b.yaml: b:80"));
  fs::rename(in("sub"), in("renamed"));
  EXPECT_TRUE(becomes("renamed/deep/a.yaml: a:80; renamed/deep/b.yaml: b:80"));
  replace(in("renamed/deep/b.yaml"), manifest_of("b", 81));
  EXPECT_TRUE(becomes("renamed/deep/a.yaml: a:80; renamed/deep/b.yaml: b:81"));
  fs::rename(in("renamed"), box_ + "/out");
  becomes("");
}

TEST_F(Directory, FindsFilesInDirectoriesMadeAMomentAgo) {
  start_synced();
  fs::create_directories(in("a/b/c"));
  write(in("a/b/c/x.yaml"), manifest_of("x"));
  EXPECT_TRUE(becomes("a/b/c/x.yaml: x:80"));
  write(in("a/b/z.yaml"), manifest_of("z"));
  EXPECT_TRUE(becomes("a/b/c/x.yaml: x:80; a/b/z.yaml: z:80"));
  fs::remove_all(in("a"));
  becomes("");
}

TEST_F(Directory, FollowsADirectoryReplacedUnderItsName) {
  fs::create_directory(in("sub"));
  write(in("sub/a.yaml"), manifest_of("a"));
  fs::create_directory(box_ + "/next");
  write(box_ + "/next/b.yaml", manifest_of("b"));
  start_synced();
  fs::rename(in("sub"), box_ + "/old");
  fs::rename(box_ + "/next", in("sub"));
  EXPECT_TRUE(becomes("sub/b.yaml: b:80"));
  write(box_ + "/old/c.yaml", manifest_of("c"));  // no longer ours
  replace(in("sub/b.yaml"), manifest_of("b", 81));
  becomes("sub/b.yaml: b:81");
}

// As kubectl and ConfigMap volumes do it.
class Volume : public DirectoryFixture {
 protected:
  void publish(const std::string& version, std::map<std::string, int> ports) {
    fs::create_directory(in(".." + version));
    for (const auto& [name, port] : ports)
      write(in(".." + version + "/" + name + ".yaml"), manifest_of(name, port));
    fs::create_symlink(".." + version, in("..data_tmp"));
    fs::rename(in("..data_tmp"), in("..data"));
    for (const auto& [name, port] : ports)
      if (!fs::is_symlink(in(name + ".yaml")))
        fs::create_symlink("..data/" + name + ".yaml", in(name + ".yaml"));
  }
};

TEST_F(Volume, SwapChangesEverythingInOneBatch) {
  publish("1", {{"a", 80}, {"b", 80}});
  write(in("plain.yaml"), manifest_of("plain"));
  start_synced();
  publish("2", {{"a", 81}, {"b", 81}});
  EXPECT_TRUE(becomes("a.yaml: a:81; b.yaml: b:81; plain.yaml: plain:80"));
  EXPECT_EQ(batches_, 1);
  settle();
  fs::remove_all(in("..1"));
  publish("3", {{"a", 82}});  // b is gone: its link leads nowhere
  EXPECT_TRUE(becomes("a.yaml: a:82; plain.yaml: plain:80"));
  publish("4", {{"a", 83}, {"b", 83}});
  becomes("a.yaml: a:83; b.yaml: b:83; plain.yaml: plain:80");
}

TEST_F(Volume, SwapReadsOnlyFilesThatAreOthers) {
  for (int i = 0; i < 20; ++i)
    write(in("s" + std::to_string(i) + ".yaml"), manifest_of("s" + std::to_string(i)));
  // Old enough that their time stamps can be trusted.
  for (const auto& entry : fs::directory_iterator(root_))
    fs::last_write_time(entry.path(), fs::file_time_type::clock::now() - std::chrono::hours(1));
  publish("1", {{"a", 80}});
  start_synced();
  publish("2", {{"a", 81}});
  EXPECT_TRUE(until([&] { return batches_ > 0; }));
  EXPECT_EQ(published_, std::vector<std::string>{in("a.yaml")});
  EXPECT_EQ(reads(), 1u);
}

class Symlinks : public DirectoryFixture {};

TEST_F(Symlinks, ToFilesElsewhereAreFollowedThroughTheirChanges) {
  write(box_ + "/real.yaml", manifest_of("web", 80));
  fs::create_symlink("../real.yaml", in("web.yaml"));
  start_synced();
  EXPECT_EQ(mesh(), "web.yaml: web:80");
  write(box_ + "/real.yaml", manifest_of("web", 81));
  EXPECT_TRUE(becomes("web.yaml: web:81"));
  replace(box_ + "/real.yaml", manifest_of("web", 82));
  EXPECT_TRUE(becomes("web.yaml: web:82"));
  write(box_ + "/real.yaml", manifest_of("web", 83));
  EXPECT_TRUE(becomes("web.yaml: web:83"));
  fs::remove(box_ + "/real.yaml");
  EXPECT_TRUE(becomes(""));
  write(box_ + "/real.yaml", manifest_of("web", 84));
  EXPECT_TRUE(becomes("web.yaml: web:84"));
  fs::remove(in("web.yaml"));
  becomes("");
}

TEST_F(Symlinks, ToDirectoriesAreFollowedUnderEveryName) {
  fs::create_directory(box_ + "/real");
  write(box_ + "/real/a.yaml", manifest_of("a"));
  fs::create_symlink("../real", in("one"));
  start_synced();
  fs::create_symlink("../real", in("two"));
  EXPECT_TRUE(becomes("one/a.yaml: a:80; two/a.yaml: a:80"));
  replace(box_ + "/real/a.yaml", manifest_of("a", 81));
  EXPECT_TRUE(becomes("one/a.yaml: a:81; two/a.yaml: a:81"));
  fs::remove(in("one"));
  EXPECT_TRUE(becomes("two/a.yaml: a:81"));
  replace(box_ + "/real/a.yaml", manifest_of("a", 82));
  EXPECT_TRUE(becomes("two/a.yaml: a:82"));
  fs::create_directory(box_ + "/other");
  write(box_ + "/other/b.yaml", manifest_of("b"));
  fs::create_symlink("../other", in("new"));
  fs::rename(in("new"), in("two"));
  becomes("two/b.yaml: b:80");
}

TEST_F(Symlinks, ThatLeadBackEndThere) {
  fs::create_directory(in("sub"));
  write(in("sub/a.yaml"), manifest_of("a"));
  fs::create_symlink("..", in("sub/up"));
  fs::create_symlink(".", in("self"));
  fs::create_symlink("../..", in("sub/out"));
  fs::create_symlink("nowhere", in("lost.yaml"));
  start_synced();
  EXPECT_EQ(mesh(), "sub/a.yaml: a:80");
  EXPECT_EQ(list_manifests(root_), std::vector<std::string>{in("sub/a.yaml")});
  fs::create_symlink("..", in("sub/again"));
  replace(in("sub/a.yaml"), manifest_of("a", 81));
  becomes("sub/a.yaml: a:81");
}

TEST_F(Symlinks, SwappedAsTheRootAreFollowed) {
  for (const char* name : {"1", "2"}) {
    fs::create_directory(box_ + "/v" + name);
    write(box_ + "/v" + name + "/a" + name + ".yaml", manifest_of("a"));
  }
  fs::remove(root_);
  fs::create_symlink("v1", root_);
  start_synced();
  fs::create_symlink("v2", box_ + "/next");
  fs::rename(box_ + "/next", root_);
  EXPECT_TRUE(until([&] { return units_.contains(in("a2.yaml")); }));
  EXPECT_EQ(units_.size(), 1u);
}

TEST_F(Directory, GivenRelativeNamesFilesAsItWasGiven) {
  write(in("web.yaml"), manifest_of("web"));
  const auto before = fs::current_path();
  fs::current_path(box_);
  start_on("mesh/");
  EXPECT_TRUE(until([&] { return units_.contains("mesh/web.yaml"); }));
  fs::rename("mesh", "away");
  EXPECT_TRUE(until([&] { return units_.empty(); }));
  fs::rename("away", "mesh");
  EXPECT_TRUE(until([&] { return units_.contains("mesh/web.yaml"); }));
  fs::current_path(before);
}

TEST(Manifests, AreListedAsTheSourceReadsThem) {
  for (const char* name : {"a.yaml", "a.yml", "a.json", "a.b.yaml"})
    EXPECT_TRUE(is_manifest_name(name)) << name;
  for (const char* name : {"", ".yaml", ".a.yaml", "a.yaml~", "a.yaml.swp", "yaml", "a.YAML"})
    EXPECT_FALSE(is_manifest_name(name)) << name;
}

}  // namespace
}  // namespace weft::sources
