// The law of merge(): the mesh depends on the set of units alone, never on the order they came in
// nor on what was asked in between. Random units are small and crowded, so that ids, addresses,
// hosts and endpoints collide all the time.
#include <gtest/gtest.h>

#include <random>

#include "mesh/model/merge.h"
#include "mesh/model/test_objects.h"

namespace weft::model {
namespace {

using Units = std::map<std::string, std::shared_ptr<const Unit>>;

class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}

  unsigned below(unsigned n) { return std::uniform_int_distribution<unsigned>(0, n - 1)(random_); }
  bool chance(unsigned percent) { return below(100) < percent; }
  std::mt19937& engine() { return random_; }

  std::shared_ptr<const Unit> unit(const std::string& file) {
    file_ = std::make_shared<const std::string>(file);
    std::vector<Object> objects;
    std::vector<Notice> notices;
    for (unsigned i = below(5); i > 0; --i) objects.push_back(object(static_cast<int>(i)));
    if (chance(20))
      notices.push_back({Severity::kWarning, {file_, 1}, "", "w" + std::to_string(below(2))});
    return test::unit(std::move(objects), std::move(notices));
  }

 private:
  Object object(int line) {
    switch (below(11)) {
      case 0:
      case 1:
      case 2:
        return with_meta(service(), line);
      case 3:
      case 4:
        return with_meta(slice(), line);
      case 5:
      case 6:
        if (chance(20)) return with_meta(test::pod_labels("", labels()), line);
        return with_meta(pod(), line);
      case 7:
      case 8:
        return with_meta(routes(line), line);
      case 9:
        return with_meta(http_route(), line);
    }
    auto rule = test::rule("", host(), static_cast<Balancer>(below(3)));
    for (const char* name : {"v0", "v1"})
      if (chance(70)) rule.subsets.push_back({name, labels()});
    if (chance(30)) {
      rule.traffic.outlier.emplace();
      rule.traffic.locality.emplace().enabled = chance(80);
      rule.traffic.locality->failover_priority = {chance(50) ? "a=0" : "b=1"};
    }
    if (chance(30)) {
      auto& port = rule.ports.emplace_back();
      port.port = static_cast<std::uint16_t>(80 + below(3));
      port.traffic.max_connections = below(2);
    }
    return with_meta(std::move(rule), line);
  }

  std::string host() {
    static constexpr const char* kHosts[] = {"s0",   "s1.n1",          "s2.n0.svc.cluster.local",
                                             "*.n0", "e0.example.com", "e1.example.com"};
    return kHosts[below(6)];
  }
  std::string routed_host() {
    static constexpr const char* kWide[] = {"*", "*.n0.svc.cluster.local", "*.local"};
    return chance(70) ? host() : kWide[below(3)];
  }

  HttpRule http_rule(std::vector<HttpBackend>& backends, const std::string& host) {
    HttpRule rule;
    for (unsigned i = below(3); i > 0; --i) {
      auto& match = rule.matches.emplace_back();
      match.path = PathMatch{PathMatch::Kind::kPrefix, "/" + std::to_string(below(3)), false};
      if (chance(20)) match.source_namespace = "n" + std::to_string(below(2));
    }
    Forward forward;
    for (unsigned i = below(3); i > 0; --i) {
      auto& backend = backends.emplace_back();
      backend.host = host;
      if (chance(30)) backend.subset = "v" + std::to_string(below(2));
      if (chance(30)) backend.port = static_cast<std::uint16_t>(80 + below(2));
      forward.destinations.emplace_back().cluster = static_cast<std::uint32_t>(backends.size() - 1);
    }
    rule.action = forward;
    return rule;
  }

  HttpRouteObject http_route() {
    HttpRouteObject result;
    for (unsigned i = 1 + below(2); i > 0; --i) {
      RouteParent parent{
          "n" + std::to_string(below(2)), "s" + std::to_string(below(4)), {}, "", {}};
      if (chance(20)) parent.port = 80;
      result.parents.push_back(parent);
    }
    for (unsigned i = 1 + below(2); i > 0; --i)
      result.rules.push_back(http_rule(result.backends, "s" + std::to_string(below(4)) + ".n0"));
    return result;
  }

  VirtualServiceObject routes(int line) {
    VirtualServiceObject result;
    for (unsigned i = 1 + below(2); i > 0; --i) result.hosts.push_back(routed_host());
    if (chance(30)) result.export_to = {chance(50) ? "." : "n1"};
    if (chance(60)) {
      HttpRuleSpec spec;
      spec.rule = http_rule(result.backends, host());
      for (std::size_t i = 0; i < spec.rule.matches.size(); ++i)
        spec.ports.push_back(chance(20) ? 80 : 0);
      result.http.push_back(std::move(spec));
    }
    for (unsigned i = result.http.empty() ? 1 + below(2) : below(2); i > 0; --i) {
      TcpRule rule;
      rule.origin = {file_, line};
      if (chance(40)) rule.ports.push_back(static_cast<std::uint16_t>(80 + below(2)));
      for (unsigned j = 1 + below(2); j > 0; --j) {
        auto& to = rule.destinations.emplace_back();
        to.host = host();
        if (chance(70)) to.subset = "v" + std::to_string(below(2));
        if (chance(20)) to.port = static_cast<std::uint16_t>(80 + below(2));
        to.weight = below(4);
        to.origin = {file_, line};
      }
      result.tcp.push_back(std::move(rule));
    }
    return result;
  }

  template <class T>
  T with_meta(T object, int line) {
    object.meta.namespace_name = "n" + std::to_string(below(2));
    object.meta.name = "s" + std::to_string(below(4));
    if (chance(40)) object.meta.created = below(3);
    // Now and then objects of an API server, which have no file, or two versions on one line.
    if (chance(80)) object.meta.origin = {file_, chance(80) ? line : 1};
    return object;
  }

  Address service_address() { return test::address("10.96.0." + std::to_string(below(4))); }
  Address pod_address() { return test::address("10.0.0." + std::to_string(below(6))); }
  Labels labels() {
    Labels result;
    for (const char* key : {"a", "b"})
      if (chance(60)) result[key] = std::to_string(below(2));
    return result;
  }

  ServiceObject service() {
    ServiceObject result;
    if (chance(80)) result.cluster_ips.push_back(service_address());
    if (chance(50)) result.external_ips.push_back(service_address());
    result.headless = chance(10);
    result.unserved_type = chance(10);
    result.publish_not_ready = chance(20);
    if (chance(70)) result.selector = labels();
    if (chance(10)) result.balancer = Balancer::kSourceHash;
    if (chance(40)) result.entry = entry();
    for (unsigned i = 1 + below(2); i > 0; --i) {
      ServicePortSpec port{
          chance(50) ? "" : "p", static_cast<std::uint16_t>(80 + below(2)), Protocol::kTcp, {}};
      if (chance(30)) port.target = TargetPort(std::string("http"));
      result.ports.push_back(port);
    }
    return result;
  }

  // Of a ServiceEntry, whose hosts may be those of Services, too.
  EntryPart entry() {
    EntryPart result;
    for (unsigned i = 1 + below(2); i > 0; --i) {
      auto name = host();
      if (!name.starts_with('*')) result.hosts.push_back(std::move(name));
    }
    if (result.hosts.empty()) result.hosts = {"s" + std::to_string(below(4))};
    if (chance(30)) result.export_to = {chance(50) ? "." : "n1"};
    for (unsigned i = below(4); i > 0; --i) {
      auto& endpoint = result.endpoints.emplace_back();
      endpoint.address = pod_address();
      endpoint.labels = labels();
      if (chance(30)) endpoint.ports["p"] = 7000;
    }
    return result;
  }

  EndpointSliceObject slice() {
    EndpointSliceObject result;
    if (chance(90)) result.service = "s" + std::to_string(below(4));
    for (unsigned i = below(4); i > 0; --i) {
      result.endpoints.push_back(
          test::slice_endpoint(pod_address().to_text(), chance(70), chance(70), chance(30)));
      result.endpoints.back().zone = chance(50) ? "z" : "";
      if (chance(50)) result.endpoints.back().pod = "s" + std::to_string(below(4));
    }
    if (chance(80)) result.ports.push_back({chance(50) ? "" : "p", 8080, Protocol::kTcp});
    if (chance(30)) result.ports.push_back({{}, 8081, Protocol::kTcp});
    return result;
  }

  PodObject pod() {
    auto result = test::pod("", pod_address().to_text(), labels(), chance(70));
    result.terminating = chance(20);
    result.finished = chance(10);
    if (chance(50)) result.ports.push_back({"http", 9000, Protocol::kTcp});
    return result;
  }

  std::mt19937 random_;
  std::shared_ptr<const std::string> file_;
};

std::string all_of(const Mesh& mesh) {
  std::string text = to_text(mesh);
  for (const auto& notice : *mesh.notices) text += notice.to_text() + "\n";
  return text;
}

TEST(Merge, DependsOnTheSetOfUnitsAndNotOnTheWayThere) {
  for (unsigned seed = 0; seed < 150; ++seed) {
    Generator generator(seed);
    Merger merger;
    Units units;
    for (unsigned step = 0; step < 40; ++step) {
      const auto name = "u" + std::to_string(generator.below(8));
      const auto unit = generator.chance(25) ? nullptr : generator.unit(name);
      merger.set(name, unit);
      if (unit)
        units[name] = unit;
      else
        units.erase(name);
      if (generator.chance(50)) continue;
      ASSERT_EQ(all_of(*merger.build()), all_of(*merge(units)))
          << "seed " << seed << " step " << step;
    }
  }
}

TEST(Merge, GivesTheSameMeshInWhateverOrderUnitsCome) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    Generator generator(seed);
    std::vector<std::pair<std::string, std::shared_ptr<const Unit>>> units;
    for (int i = 0; i < 12; ++i)
      units.emplace_back("u" + std::to_string(i), generator.unit("u" + std::to_string(i)));
    const auto expected = all_of(*merge({units.begin(), units.end()}));
    for (int round = 0; round < 4; ++round) {
      std::shuffle(units.begin(), units.end(), generator.engine());
      Merger merger;
      for (const auto& [name, unit] : units) merger.set(name, unit);
      ASSERT_EQ(all_of(*merger.build()), expected) << "seed " << seed;
    }
  }
}

// Pods whose service has slices matter to subsets alone: the one way that the test above, where all
// changes at once, hardly ever takes.
TEST(Merge, FollowsPodsThatOnlySubsetsAskFor) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    Generator random(seed);
    std::vector<SliceEndpoint> endpoints;
    for (unsigned i = 0; i < 4; ++i) {
      endpoints.push_back(test::slice_endpoint("10.0.0." + std::to_string(i + 1)));
      if (random.chance(50)) endpoints.back().pod = "p" + std::to_string(random.below(4));
    }
    auto rule = test::rule("r", "db", Balancer::kRandom);
    rule.subsets = {{"v0", {{"v", "0"}}}, {"v1", {{"v", "1"}}}};
    VirtualServiceObject routes;
    routes.meta = test::meta("routes");
    routes.hosts = {"web"};
    routes.tcp = {{{}, {{"db", "v0", {}, 2, {}}, {"db", "v1", {}, 1, {}}}, {}}};
    Units units = {
        {"all", test::unit({test::service("web", {"10.96.0.1"}), test::service("db", {"10.96.0.2"}),
                            test::slice("db-1", "db", endpoints), rule, routes})}};
    Merger merger;
    merger.set("all", units["all"]);
    for (unsigned step = 0; step < 40; ++step) {
      const auto name = "p" + std::to_string(random.below(4));
      auto pod = test::pod(name, "10.0.0." + std::to_string(1 + random.below(4)),
                           {{"v", std::to_string(random.below(2))}}, random.chance(50));
      pod.finished = random.chance(20);
      std::vector<Object> objects;
      if (random.chance(60)) objects.push_back(pod);
      if (random.chance(40))
        objects.push_back(test::pod_labels(name, {{"v", std::to_string(random.below(2))}}));
      units[name] = test::unit(std::move(objects));
      merger.set(name, units[name]);
      if (random.chance(30)) continue;
      ASSERT_EQ(all_of(*merger.build()), all_of(*merge(units))) << "seed " << seed;
    }
  }
}

TEST(Merge, OfNothingLeftIsEmpty) {
  Generator generator(7);
  Merger merger;
  for (int i = 0; i < 20; ++i)
    merger.set("u" + std::to_string(i), generator.unit("u" + std::to_string(i)));
  merger.build();
  for (int i = 0; i < 20; ++i) merger.set("u" + std::to_string(i), nullptr);
  EXPECT_EQ(all_of(*merger.build()), "");
}

}  // namespace
}  // namespace weft::model
