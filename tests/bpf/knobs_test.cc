// Every knob both ways: the verifier must accept what each leaves, or a kernel without the feature
// gets no data path at all.
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include <cstdarg>
#include <cstdio>
#include <iostream>
#include <memory>

#include "agent/kernel/features.h"
#include "datapath.skel.h"
#include "tests/bpf/kernel_node.h"

namespace weft::tests {
namespace {

std::string g_log;

int keep(libbpf_print_level level, const char* format, va_list arguments) {
  char line[2048];
  vsnprintf(line, sizeof line, format, arguments);
  if (level == LIBBPF_WARN) g_log += line;
  return 0;
}

struct Knobs {
  bool set_retval, v6only, sock_error;
};

class Knob : public testing::TestWithParam<Knobs> {};

std::string name_of(const Knobs& knobs) {
  return std::string(knobs.set_retval ? "SetRetval" : "") + (knobs.v6only ? "V6only" : "") +
         (knobs.sock_error ? "SockError" : "") +
         (knobs.set_retval || knobs.v6only || knobs.sock_error ? "" : "None");
}

TEST_P(Knob, SettingsLoad) {
  const auto& knobs = GetParam();
  const auto probed = kernel::probe_features();
  for (const auto& [wanted, feature] :
       {std::pair(knobs.set_retval, probed.set_retval), std::pair(knobs.v6only, probed.v6only),
        std::pair(knobs.sock_error, probed.sock_error)})
    if (wanted && !feature.enabled) {
      std::cout << "not run: kernel feature " << feature.name << std::endl;
      return;
    }
  for (const auto& [enrol, proxy] :
       {std::pair(false, false), {true, false}, {false, true}, {true, true}}) {
    libbpf_set_print(keep);
    g_log.clear();
    const std::unique_ptr<datapath, void (*)(datapath*)> skeleton(datapath__open(),
                                                                  datapath__destroy);
    ASSERT_NE(skeleton, nullptr);
    skeleton->rodata->knob_set_retval = knobs.set_retval;
    skeleton->rodata->knob_v6only = knobs.v6only;
    skeleton->rodata->knob_sock_error = knobs.sock_error;
    skeleton->rodata->knob_enrol = enrol;
    skeleton->rodata->knob_proxy = proxy;
    EXPECT_EQ(datapath__load(skeleton.get()), 0) << g_log;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Knob,
                         testing::Values(Knobs{true, true, true}, Knobs{false, true, true},
                                         Knobs{true, false, true}, Knobs{true, true, false},
                                         Knobs{false, false, false}),
                         [](const auto& knobs) { return name_of(knobs.param); });

TEST(Features, HaveAReasonExactlyWhereTheyAreMissing) {
  for (const auto& feature : kernel::probe_features().list())
    EXPECT_EQ(feature.enabled, feature.reason.empty()) << feature.name;
}

TEST(Missing, IsNothingOnThisNode) {
  const KernelNode node;
  kernel::DatapathOptions options;
  options.pins = node.pins();
  options.cgroup = node.cgroup();
  EXPECT_EQ(kernel::Datapath::missing(options), std::vector<std::string>{});
}

TEST(Missing, NamesWhatIsWrongAndWhatToDo) {
  kernel::DatapathOptions options;
  options.pins.root = "/proc/self";
  options.cgroup = "/proc/self";
  const auto lines = kernel::Datapath::missing(options);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_NE(lines[0].find("mount -t cgroup2"), std::string::npos) << lines[0];
  EXPECT_NE(lines[1].find("mount -t bpf"), std::string::npos) << lines[1];
  options.cgroup = "/proc/self/absent";
  EXPECT_NE(kernel::Datapath::missing(options)[0].find("does not exist"), std::string::npos);
}

}  // namespace
}  // namespace weft::tests
