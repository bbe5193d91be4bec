// With weft's real programs and a stranger's on cgroups of our own. Needs root.
#include "agent/kernel/neighbours.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <thread>

#include "mesh/base/fd.h"
#include "tests/bpf/kernel_node.h"

namespace weft::kernel {
namespace {

// A cgroup below the node's, to look from.
class Inner {
 public:
  explicit Inner(const std::string& above) : path(above + "/inner") {
    EXPECT_EQ(mkdir(path.c_str(), 0755), 0) << path << ": " << std::strerror(errno);
  }
  ~Inner() { EXPECT_EQ(rmdir(path.c_str()), 0) << path << ": " << std::strerror(errno); }
  Inner(const Inner&) = delete;
  Inner& operator=(const Inner&) = delete;

  const std::string path;
};

// Somebody else's connect4 program, which lets everything pass; it goes with the object.
class Stranger {
 public:
  explicit Stranger(const char* name, const char* function = nullptr) {
    const bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 1},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
    LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
    bpf_func_info info{};
    const Types types = function ? types_of(function, info.type_id) : Types(nullptr, btf__free);
    base::Fd types_fd;
    if (types) {
      std::uint32_t size = 0;
      const void* raw = btf__raw_data(types.get(), &size);
      types_fd = base::Fd(bpf_btf_load(raw, size, nullptr));
      EXPECT_TRUE(types_fd) << std::strerror(errno);
      options.prog_btf_fd = types_fd.get();
      options.func_info = &info;
      options.func_info_cnt = 1;
      options.func_info_rec_size = sizeof info;
    }
    program_ = base::Fd(bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, name, "GPL", program,
                                      std::size(program), &options));
    EXPECT_TRUE(program_) << std::strerror(errno);
    bpf_prog_info loaded{};
    std::uint32_t length = sizeof loaded;
    EXPECT_EQ(bpf_obj_get_info_by_fd(program_.get(), &loaded, &length), 0);
    id = loaded.id;
  }
  ~Stranger() {
    if (cgroup_) bpf_prog_detach2(program_.get(), cgroup_.get(), BPF_CGROUP_INET4_CONNECT);
  }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;

  void link_to(const std::string& cgroup) {
    const base::Fd fd = open_cgroup(cgroup);
    link_ = base::Fd(bpf_link_create(program_.get(), fd.get(), BPF_CGROUP_INET4_CONNECT, nullptr));
    EXPECT_TRUE(link_) << std::strerror(errno);
  }
  void attach_to(const std::string& cgroup, unsigned flags) {
    cgroup_ = open_cgroup(cgroup);
    EXPECT_EQ(bpf_prog_attach(program_.get(), cgroup_.get(), BPF_CGROUP_INET4_CONNECT, flags), 0)
        << std::strerror(errno);
  }

  std::uint32_t id = 0;

 private:
  static base::Fd open_cgroup(const std::string& path) {
    return base::Fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }

  using Types = std::unique_ptr<btf, void (*)(btf*)>;

  // As a compiler tells of `int function(void*)`.
  static Types types_of(const char* function, std::uint32_t& id) {
    Types types(btf__new_empty(), btf__free);
    const int number = btf__add_int(types.get(), "int", 4, BTF_INT_SIGNED);
    const int pointer = btf__add_ptr(types.get(), 0);
    const int proto = btf__add_func_proto(types.get(), number);
    EXPECT_EQ(btf__add_func_param(types.get(), "ctx", pointer), 0);
    id = btf__add_func(types.get(), function, BTF_FUNC_GLOBAL, proto);
    return types;
  }

  base::Fd program_, link_, cgroup_;
};

std::set<std::uint32_t> own_programs(const tests::KernelNode& node) {
  std::set<std::uint32_t> ids;
  for (const auto& hook : read_hooks(node.pins(), node.cgroup())) ids.insert(hook.program_id);
  return ids;
}

// Of those below the machine's root cgroup, whose programs are not this test's business.
std::vector<ForeignProgram> strangers(const tests::KernelNode& node, const std::string& cgroup) {
  std::string why = "not cleared";
  std::vector<ForeignProgram> found;
  for (auto& program : foreign_programs(cgroup, own_programs(node), &why))
    if (program.cgroup.starts_with(node.cgroup())) found.push_back(std::move(program));
  EXPECT_EQ(why, "");
  return found;
}

TEST(ForeignPrograms, WeftsOwnAreNone) {
  tests::KernelNode node;
  node.start();
  EXPECT_EQ(strangers(node, node.cgroup()), std::vector<ForeignProgram>{});
  // Where they are not said to be own, they are seen: one at every hook.
  EXPECT_GE(foreign_programs(node.cgroup(), {}).size(), hook_names().size());
}

TEST(ForeignPrograms, OnTheSameCgroupAreFoundHoweverAttached) {
  tests::KernelNode node;
  node.start();
  Stranger linked("linked"), attached("attached");
  linked.link_to(node.cgroup());
  attached.attach_to(node.cgroup(), BPF_F_ALLOW_MULTI);
  const std::vector<ForeignProgram> expected = {
      {"connect4", linked.id, "linked", node.cgroup(), true},
      {"connect4", attached.id, "attached", node.cgroup(), true}};
  auto found = strangers(node, node.cgroup());
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  EXPECT_EQ(found, expected);
}

TEST(ForeignPrograms, AboveAreFoundWithTheirCgroup) {
  tests::KernelNode node;
  node.start();
  Stranger outer("outer"), inner("inner");
  const Inner below(node.cgroup());
  outer.link_to(node.cgroup());
  inner.link_to(below.path);
  const std::vector<ForeignProgram> expected = {
      {"connect4", inner.id, "inner", below.path, true},
      {"connect4", outer.id, "outer", node.cgroup(), true}};
  EXPECT_EQ(strangers(node, below.path), expected);
  // What is attached below a cgroup is not looked at.
  EXPECT_EQ(strangers(node, node.cgroup()), std::vector<ForeignProgram>{expected[1]});
}

// A program that lets itself be overridden stops where somebody below attaches, as weft does.
TEST(ForeignPrograms, ThatNoLongerRunAreSaidToBe) {
  const tests::KernelNode node;
  const Inner below(node.cgroup());
  Stranger overridden("overridden"), over("over");
  overridden.attach_to(node.cgroup(), BPF_F_ALLOW_OVERRIDE);
  auto found = strangers(node, below.path);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].runs);
  over.link_to(below.path);
  found = strangers(node, below.path);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[1].name, "overridden");
  EXPECT_TRUE(found[0].runs);
  EXPECT_FALSE(found[1].runs);
}

// The kernel keeps 15 bytes of a name; the rest is in the program's types.
TEST(ForeignPrograms, HaveTheirWholeName) {
  const tests::KernelNode node;
  Stranger whole("cil_sock4_conne", "cil_sock4_connect");
  whole.link_to(node.cgroup());
  auto found = strangers(node, node.cgroup());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].name, "cil_sock4_connect");
}

TEST(ForeignPrograms, WithoutTypesHaveTheKernelsName) {
  const tests::KernelNode node;
  Stranger cut("cil_sock4_conne");
  cut.link_to(node.cgroup());
  const auto found = strangers(node, node.cgroup());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].name, "cil_sock4_conne");
}

TEST(ForeignPrograms, OfManyAllAreFound) {
  const tests::KernelNode node;
  const Inner below(node.cgroup());
  // 64 is the most for one cgroup, so the two levels run more than that.
  std::vector<std::unique_ptr<Stranger>> all;
  for (const auto& cgroup : {node.cgroup(), below.path})
    for (int i = 0; i < 40; ++i) {
      all.push_back(std::make_unique<Stranger>("many"));
      all.back()->link_to(cgroup);
    }
  EXPECT_EQ(strangers(node, below.path).size(), all.size());
}

// A container may have no more mounted than its own part of the hierarchy.
TEST(ForeignPrograms, AboveWhatIsMountedHereAreFoundWithoutTheirCgroup) {
  const tests::KernelNode node;
  const Inner below(node.cgroup());
  Stranger outer("outer");
  outer.link_to(node.cgroup());
  std::string part = "/tmp/weft-lab-XXXXXX";
  ASSERT_NE(mkdtemp(part.data()), nullptr);
  std::thread([&] {
    // In a mount namespace of this thread, which goes with it.
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount(below.path.c_str(), part.c_str(), nullptr, MS_BIND, nullptr), 0);
    std::vector<ForeignProgram> found;
    for (auto& program : foreign_programs(part, {}))
      if (program.id == outer.id) found.push_back(std::move(program));
    EXPECT_EQ(found, (std::vector<ForeignProgram>{{"connect4", outer.id, "outer", "", true}}));
  }).join();
  EXPECT_EQ(rmdir(part.c_str()), 0) << part;
}

TEST(ForeignPrograms, OfACgroupThatIsGoneAreNoneAndItIsSaid) {
  std::string why;
  for (const char* path : {"/proc", "/no/such/cgroup"}) {
    EXPECT_TRUE(foreign_programs(path, {}, &why).empty());
    EXPECT_EQ(why, std::string("cannot look at cgroup ") + path);
  }
  EXPECT_TRUE(foreign_programs("/no/such/cgroup", {}).empty());
}

TEST(ForeignPrograms, WithoutTheRightAreNoneAndItIsSaid) {
  const tests::KernelNode node;
  Stranger stranger("stranger");
  stranger.link_to(node.cgroup());
  std::thread([&] {
    // Of this thread only.
    ASSERT_EQ(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
    std::string why;
    EXPECT_TRUE(foreign_programs(node.cgroup(), {}, &why).empty());
    EXPECT_NE(why.find("Operation not permitted"), std::string::npos) << why;
  }).join();
}

TEST(InWords, AMakerIsNamedOnceForEachCgroup) {
  const std::vector<ForeignProgram> programs = {
      {"sendmsg4", 1, "cil_sock4_sendmsg", "/sys/fs/cgroup", true},
      {"connect4", 2, "cil_sock4_connect", "/sys/fs/cgroup", true},
      {"connect4", 3, "guard", "/sys/fs/cgroup/kubepods.slice", true},
      {"connect4", 4, "guard", "/sys/fs/cgroup/kubepods.slice", true},
      {"connect4", 5, "", "", true},
      {"connect6", 6, "guard", "/sys/fs/cgroup", false}};
  const auto words = in_words(programs);
  ASSERT_EQ(words.size(), 4u);
  EXPECT_EQ(words[0].first, "Cilium's socket balancing");
  EXPECT_TRUE(words[0].second.starts_with("at sendmsg4, connect4 of /sys/fs/cgroup: "))
      << words[0].second;
  EXPECT_EQ(words[1].first, "guard");
  EXPECT_TRUE(words[1].second.starts_with("at connect4 of /sys/fs/cgroup/kubepods.slice: sees "))
      << words[1].second;
  EXPECT_EQ(words[2].first, "program 5");
  EXPECT_TRUE(words[2].second.starts_with("at connect4 of a cgroup above ")) << words[2].second;
  EXPECT_TRUE(words[3].second.starts_with("at connect6 of /sys/fs/cgroup: does not run "))
      << words[3].second;
}

}  // namespace
}  // namespace weft::kernel
