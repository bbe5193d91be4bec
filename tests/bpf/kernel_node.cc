#include "tests/bpf/kernel_node.h"

#include <arpa/inet.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "agent/kernel/pins.h"

namespace weft::tests {
namespace {

// One line says what is missing; no test runs without it, and none is passed over in silence.
class Rights : public testing::Environment {
 public:
  void SetUp() override {
    ASSERT_EQ(geteuid(), 0u) << "needs root: loads eBPF programs and makes a cgroup";
    ASSERT_FALSE(mount_point("cgroup2").empty())
        << "needs a mounted cgroup2: mount -t cgroup2 none DIR";
    ASSERT_FALSE(bpffs().empty()) << "needs a bpffs, and none could be mounted: "
                                  << std::strerror(errno);
  }

  static std::string mount_point(const std::string& type) {
    std::ifstream mounts("/proc/self/mounts");
    for (std::string line; std::getline(mounts, line);) {
      std::istringstream words(line);
      std::string device, where, kind, options;
      words >> device >> where >> kind >> options;
      // Not that of somebody's virtual node, which goes with it.
      if (kind == type && options.starts_with("rw") && where.find("weft-lab") == std::string::npos)
        return where;
    }
    return "";
  }

  // The machine's, or one in a mount namespace of this process.
  static const std::string& bpffs() {
    static const std::string where = [] {
      std::string found = mount_point("bpf");
      if (!found.empty()) return found;
      char own[] = "/tmp/weft-lab-XXXXXX";
      if (unshare(CLONE_NEWNS) || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) ||
          !mkdtemp(own) || mount("bpf", own, "bpf", 0, nullptr))
        return std::string();
      return std::string(own);
    }();
    return where;
  }
};
const auto* const kRights = testing::AddGlobalTestEnvironment(new Rights);

// The laboratory's names: what a killed test leaves is found and removed by its pid.
std::string fresh_name() {
  static int n = 0;
  return "/weft-lab-" + std::to_string(getpid()) + "-" + std::to_string(++n);
}

std::string verdict_name(unsigned verdict) {
  switch (verdict) {
    case WEFT_VERDICT_PASS:
      return "pass";
    case WEFT_VERDICT_TRANSLATE:
      return "translate";
    case WEFT_VERDICT_REFUSE_NO_ENDPOINT:
      return "refuse: no endpoint";
    case WEFT_VERDICT_REFUSE_FAMILY:
      return "refuse: family";
    case WEFT_VERDICT_REFUSE_STALE:
      return "refuse: stale";
    case WEFT_VERDICT_REFUSE_PROXY_DOWN:
      return "refuse: proxy down";
    default:
      return "verdict " + std::to_string(verdict);
  }
}

}  // namespace

compile::Limits KernelNode::small_limits() {
  return {.services = 256, .frontends = 512, .endpoints = 1024, .slots = 16384, .labels = 64};
}

KernelNode::KernelNode(bool proxy) {
  options_.proxy = proxy;
  const std::string name = fresh_name();
  options_.pins.root = Rights::bpffs() + name;
  options_.cgroup = Rights::mount_point("cgroup2") + name;
  options_.affinity_entries = 64;
  if (mkdir(options_.cgroup.c_str(), 0755))
    ADD_FAILURE() << "cannot make cgroup " << options_.cgroup;
}

KernelNode::~KernelNode() {
  datapath_.reset();
  const auto status = kernel::uninstall(options_.pins);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(rmdir(options_.cgroup.c_str()), 0) << options_.cgroup << ": " << std::strerror(errno);
}

void KernelNode::load(const compile::Limits& limits) {
  datapath_.reset();
  options_.limits = limits;
  auto loaded = kernel::Datapath::load(options_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  datapath_ = *std::move(loaded);
  auto actual = datapath_->actual();
  ASSERT_TRUE(actual.ok()) << actual.status();
  placed_ = *std::move(actual);
  in_maps_ = datapath_->fresh_maps() ? compile::MapState{} : placed_;
  ids_.emplace(maps().limits(), placed_);
}

void KernelNode::start(const compile::Limits& limits) {
  ASSERT_NO_FATAL_FAILURE(load(limits));
  const auto status = datapath_->attach();
  ASSERT_TRUE(status.ok()) << status;
}

void KernelNode::resume() {
  placed_ = in_maps_ = read();
  ids_.emplace(maps().limits(), placed_);
}

reconcile::Plan KernelNode::plan(const model::Mesh& mesh) {
  compile::Input input;
  input.after = &mesh;
  input.placed = &placed_;
  input.allow_mass_removal = true;
  input.proxy = options_.proxy;
  auto output = compile::compile(input, *ids_, placed_.generation + 1);
  EXPECT_EQ(output.refused, std::vector<std::string>{});
  desired_ = std::move(output.desired);
  desired_.generation = placed_.generation + 1;
  auto plan = reconcile::diff(in_maps_, desired_);
  if (plan.ops.empty()) desired_.generation = placed_.generation;
  return plan;
}

void KernelNode::write(const std::vector<reconcile::MapOp>& ops) {
  const auto status = kernel::MapWriter(maps()).write(ops);
  ASSERT_TRUE(status.ok()) << status;
}

void KernelNode::planned_is_done(const reconcile::Plan& plan) {
  ids_->release(plan.releases);
  placed_ = in_maps_ = desired_;
}

void KernelNode::apply(const model::Mesh& mesh) {
  const auto steps = plan(mesh);
  write(steps.ops);
  kernel::wait_for_grace_period();
  write(steps.cleanup);
  planned_is_done(steps);
}

weft_answer KernelNode::ask(const std::string& address, std::uint16_t port,
                            std::uint64_t netns_cookie, std::uint16_t reach, bool dry) const {
  weft_query query{};
  query.netns_cookie = netns_cookie;
  query.key.addr = compile::to_abi(*model::Address::parse(address));
  query.key.port = htons(port);
  query.key.proto = IPPROTO_TCP;
  query.reach = reach;
  query.mode = dry ? WEFT_MODE_DRY : WEFT_MODE_SEND;
  const auto answer = kernel::ask(options_.pins, query);
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer.ok() ? *answer : weft_answer{};
}

std::uint64_t KernelNode::events(weft_event event) const {
  const auto sums = kernel::read_events(options_.pins);
  EXPECT_TRUE(sums.ok()) << sums.status();
  return sums.ok() ? (*sums)[event] : 0;
}

compile::MapState KernelNode::read() const {
  auto state = kernel::read_state(datapath_->maps());
  EXPECT_TRUE(state.ok()) << state.status();
  return state.ok() ? *std::move(state) : compile::MapState{};
}

std::uint32_t KernelNode::index_of(const std::string& service) const {
  const auto* placed = placed_.services.find({"default", service});
  EXPECT_NE(placed, nullptr) << service << " is not placed";
  return placed ? (*placed)->ports[0].index : 0;
}

model::Service make_service(const std::string& name, const std::vector<std::string>& addresses,
                            const std::vector<std::string>& endpoints, model::Balancer balancer) {
  model::Service service;
  service.key = {"default", name};
  service.balancer = balancer;
  for (const auto& text : addresses) service.addresses.push_back(*model::Address::parse(text));
  std::sort(service.addresses.begin(), service.addresses.end());
  service.ports.push_back({"http", 80, model::Protocol::kTcp, {}});
  for (const auto& text : endpoints) {
    model::Endpoint endpoint;
    const auto mark = std::min(text.find(" not-ready"), text.find(" draining"));
    endpoint.address = *model::Address::parse(text.substr(0, mark));
    endpoint.port = 8080;
    if (text.ends_with(" not-ready")) endpoint.state = model::EndpointState::kNotReady;
    if (text.ends_with(" draining")) endpoint.state = model::EndpointState::kDraining;
    service.ports[0].endpoints.push_back(endpoint);
  }
  std::sort(service.ports[0].endpoints.begin(), service.ports[0].endpoints.end(),
            [](const auto& a, const auto& b) { return a.address < b.address; });
  return service;
}

model::Mesh make_mesh(const std::vector<model::Service>& services) {
  model::Mesh mesh;
  for (const auto& service : services)
    mesh.services.set(service.key, std::make_shared<const model::Service>(service));
  return mesh;
}

std::string text_of(const weft_answer& answer) {
  if (answer.verdict != WEFT_VERDICT_TRANSLATE && answer.verdict != WEFT_VERDICT_CAPTURE)
    return verdict_name(answer.verdict);
  return compile::from_abi(answer.addr).to_text() + ":" + std::to_string(ntohs(answer.port));
}

}  // namespace weft::tests
