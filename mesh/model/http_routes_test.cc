#include "mesh/model/http_routes.h"

#include <gtest/gtest.h>

#include "mesh/model/test_meshes.h"

namespace weft::model {
namespace {

using test::merged;
using test::notices;
using test::says;
using test::service;
using test::slice;
using test::slice_endpoint;
using test::unit;

HttpBackend to(const std::string& host, const std::string& subset = "") {
  HttpBackend backend;
  backend.host = host;
  backend.subset = subset;
  return backend;
}

HttpMatch prefix(const std::string& path) {
  HttpMatch match;
  match.path = PathMatch{PathMatch::Kind::kPrefix, path, false};
  return match;
}

Forward forward(std::uint32_t cluster = 0) {
  Forward result;
  result.destinations.emplace_back().cluster = cluster;
  return result;
}

// One rule, from /`name` to `backend`.
VirtualServiceObject routes(const std::string& name, const std::string& host, HttpBackend backend,
                            const std::string& space = "shop") {
  VirtualServiceObject result;
  result.meta = test::meta(name, space);
  result.hosts = {host};
  HttpRuleSpec spec;
  spec.rule.object = "VirtualService " + space + "/" + name;
  spec.rule.matches = {prefix("/" + name)};
  spec.rule.action = forward();
  spec.ports = {0};
  result.http = {spec};
  result.backends = {std::move(backend)};
  return result;
}

HttpMatch path(PathMatch::Kind kind, const std::string& text) {
  HttpMatch match;
  match.path = PathMatch{kind, text, false};
  return match;
}

HttpRouteObject http_route(const std::string& name, std::vector<HttpMatch> matches,
                           const std::string& space = "shop") {
  HttpRouteObject result;
  result.meta = test::meta(name, space);
  result.parents = {{"shop", "web", {}, "", {}}};
  HttpRule rule;
  rule.object = "HTTPRoute " + space + "/" + name;
  rule.matches = std::move(matches);
  rule.action = forward();
  result.rules = {rule};
  result.backends = {to("web.shop")};
  return result;
}
HttpRouteObject http_route(const std::string& name, const std::string& space = "shop") {
  return http_route(name, {path(PathMatch::Kind::kSegmentPrefix, "/" + name)}, space);
}

ServiceObject in(ServiceObject object, const std::string& space) {
  object.meta.namespace_name = space;
  return object;
}

std::vector<Object> web_and_db() {
  return {service("web", {"10.96.0.1"}), slice("web-1", "web", {slice_endpoint("10.0.1.1")}),
          service("db", {"10.96.0.2"}), slice("db-1", "db", {slice_endpoint("10.0.2.1")})};
}

const ServicePort& port_of(const MeshPtr& mesh, const std::string& name = "web",
                           const std::string& space = "shop") {
  return (*mesh->services.find({space, name}))->ports.at(0);
}

// The rules as text without who wrote them; "" where the kernel is alone.
std::string rules_of(const MeshPtr& mesh, const std::string& name = "web",
                     const std::string& space = "shop") {
  const auto& http = port_of(mesh, name, space).http;
  return http ? to_text(*http) : "";
}

TEST(HttpRoutes, OfTheArticleCoverTheirNamespaceAndLeaveTheRestToTheService) {
  auto article = routes("service-b", "*", to("service-b"));
  const auto mesh =
      merged({service("service-a", {"10.96.0.1"}), service("service-b", {"10.96.0.2"}),
              in(service("service-a", {"10.96.0.3"}), "elsewhere")},
             article);
  const std::string rule =
      "0 prefix /service-b -> shop/service-b:80 [VirtualService shop/service-b]\notherwise -> ";
  EXPECT_EQ(rules_of(mesh, "service-a"), rule + "shop/service-a:80\n");
  EXPECT_EQ(rules_of(mesh, "service-b"), rule + "shop/service-b:80\n");
  EXPECT_EQ(rules_of(mesh, "service-a", "elsewhere"), "");
  EXPECT_FALSE(std::get<Forward>(port_of(mesh, "service-a").http->rules[0].action).path);
  EXPECT_EQ(notices(mesh), "");
}

TEST(HttpRoutes, OfANamedHostAnswer404WhereNoneMatches) {
  const auto mesh = merged(web_and_db(), routes("v", "web", to("db")));
  EXPECT_EQ(rules_of(mesh),
            "0 prefix /v -> shop/db:80 [VirtualService shop/v]\notherwise -> 404\n");
  EXPECT_EQ(port_of(mesh).http->kind, "VirtualService");
  EXPECT_EQ(rules_of(mesh, "db"), "");
}

TEST(HttpRoutes, TheFirstClusterIsTheServiceWithItsOwnEndpoints) {
  auto both = routes("v", "web", to("db"));
  both.tcp = {{{}, {{"db", "", {}, 1, {}}}, {}}};
  const auto mesh = merged(web_and_db(), both);
  const auto& port = port_of(mesh);
  EXPECT_EQ(port.endpoints.at(0).address.to_text(), "10.0.2.1");  // tcp rules are the kernel's
  ASSERT_EQ(port.http->clusters.size(), 2u);
  EXPECT_EQ(port.http->clusters[0].name(), "shop/web:80");
  EXPECT_EQ(port.http->clusters[1].name(), "shop/db:80");
  ASSERT_EQ(port.http_endpoints.size(), 2u);
  EXPECT_EQ(port.http_endpoints[0].at(0).address.to_text(), "10.0.1.1");
  EXPECT_EQ(port.http_endpoints[1].at(0).address.to_text(), "10.0.2.1");
}

std::string workload_at(const MeshPtr& mesh, std::size_t cluster) {
  const auto& workload = port_of(mesh).http_endpoints.at(cluster).at(0).workload;
  return workload.to ? workload.to->name + " " + workload.to->version : "";
}

TEST(HttpRoutes, EndpointsAreOfTheWorkloadOfTheirPodWhereItIsKnown) {
  auto objects = web_and_db();
  auto& slice_of_db = std::get<EndpointSliceObject>(objects[3]);
  slice_of_db.endpoints[0].pod = "db-77-a";
  const auto route = routes("v", "web", to("db"));
  auto mesh = merged(objects, route);
  EXPECT_EQ(workload_at(mesh, 0), "");
  EXPECT_EQ(workload_at(mesh, 1), "");
  // By its address, and by targetRef: of a pod of another node only labels are known.
  PodLabelsObject remote;
  remote.meta = test::meta("db-77-a");
  remote.meta.labels = {{"pod-template-hash", "77"}, {"version", "v2"}};
  mesh = merged(objects, route, test::pod("web-0", "10.0.1.1", {{"version", "v1"}}), remote);
  EXPECT_EQ(workload_at(mesh, 0), "web-0 v1");
  EXPECT_EQ(workload_at(mesh, 1), "db v2");
  EXPECT_FALSE(port_of(mesh).endpoints.at(0).workload.to) << "the kernel has no use for it";
}

TEST(HttpRoutes, TheMostSpecificHostWinsAndOfEqualsTheOldest) {
  auto young = routes("young", "web.shop.svc.cluster.local", to("db"));
  auto old = routes("old", "web", to("db"));
  young.meta.created = 2;
  old.meta.created = 1;
  const auto wide = routes("wide", "*.shop.svc.cluster.local", to("db"), "ops");
  const auto mesh_wide = routes("mesh-wide", "*.svc.cluster.local", to("db"), "ops");
  const auto own = routes("own", "*", to("db"));
  const auto winner = [&](auto... objects) {
    return port_of(merged(web_and_db(), objects...)).http->rules.at(0).object;
  };
  EXPECT_EQ(winner(young, old, wide, mesh_wide, own), "VirtualService shop/old");
  EXPECT_EQ(winner(wide, mesh_wide, own), "VirtualService ops/wide");
  EXPECT_EQ(winner(mesh_wide, own), "VirtualService ops/mesh-wide");
  EXPECT_EQ(winner(own), "VirtualService shop/own");
  EXPECT_EQ(notices(merged(web_and_db(), young, old, own)),
            "warning: VirtualService shop/young: has no effect on Service shop/web: VirtualService "
            "shop/old is for the same host and older\n");
}

TEST(HttpRoutes, AreForCallersOfTheNamespacesThatTheyAreExportedTo) {
  auto narrow = routes("narrow", "web", to("db"));
  narrow.export_to = {".", "ops"};
  narrow.meta.created = 1;
  const auto mesh = merged(web_and_db(), narrow, routes("wide", "web", to("db")));
  const auto layer = [](const std::string& n, const std::string& space) {
    return n + " prefix /narrow, caller in " + space +
           " -> shop/db:80 [VirtualService shop/narrow]\n";
  };
  const auto rest = [](const std::string& n, const std::string& space) {
    return n + " caller in " + space +
           " -> answer 404 [VirtualService shop/narrow \"nothing matched\"]\n";
  };
  EXPECT_EQ(rules_of(mesh), layer("0", "ops") + rest("1", "ops") + layer("2", "shop") +
                                rest("3", "shop") +
                                "4 prefix /wide -> shop/db:80 [VirtualService shop/wide]\n"
                                "otherwise -> 404\n");
  EXPECT_EQ(notices(mesh), "");
  const auto alone = merged(web_and_db(), narrow);
  EXPECT_TRUE(rules_of(alone).ends_with("otherwise -> shop/web:80\n"));
}

TEST(HttpRoutes, AreOnlyThoseOfThePortThatWasDialled) {
  auto ports = routes("v", "web", to("db"));
  ports.http[0].rule.matches = {prefix("/a"), prefix("/b")};
  ports.http[0].ports = {81, 80};
  EXPECT_EQ(rules_of(merged(web_and_db(), ports)),
            "0 prefix /b -> shop/db:80 [VirtualService shop/v]\notherwise -> 404\n");
  ports.http[0].ports = {81, 82};
  EXPECT_EQ(rules_of(merged(web_and_db(), ports)), "");
}

TEST(HttpRoutes, OfPortsThatSpeakSomethingElseAreReported) {
  const auto said = [&](AppProtocol protocol, auto object) {
    auto web = service("web", {"10.96.0.1"});
    web.ports[0].app_protocol = protocol;
    const auto mesh = merged({web}, object);
    EXPECT_EQ(rules_of(mesh), "");
    return notices(mesh);
  };
  const auto vs = routes("v", "web", to("web"));
  EXPECT_EQ(said(AppProtocol::kHttp2, vs),
            "warning: VirtualService shop/v: http rules have no effect on port 80 of Service "
            "shop/web: the port speaks HTTP/2, which comes in a later version\n");
  EXPECT_EQ(said(AppProtocol::kTls, http_route("r")),
            "warning: HTTPRoute shop/r: has no effect on port 80 of Service shop/web: the port "
            "speaks TLS by its name or appProtocol, and no HTTP\n");
  EXPECT_EQ(said(AppProtocol::kTcp, routes("v", "*", to("web"))), "");  // meant for others
  auto headless = service("web", {});
  headless.headless = true;
  EXPECT_TRUE(says(merged({headless}, http_route("r")), "the Service is headless"));
}

TEST(HttpRoutes, DestinationsThatAreNobodyAreNamed) {
  const auto mesh = merged(web_and_db(), routes("v", "web", to("gone")));
  const auto& cluster = port_of(mesh).http->clusters.at(1);
  EXPECT_EQ(cluster.name(), "shop/gone:?");
  EXPECT_EQ(cluster.missing, "there is no Service for the destination \"gone\"");
  EXPECT_TRUE(says(mesh,
                   "VirtualService shop/v: there is no Service for the destination \"gone\": "
                   "requests that are sent there fail"));
  const auto subset = merged(web_and_db(), routes("v", "web", to("db", "v1")));
  EXPECT_EQ(port_of(subset).http->clusters.at(1).missing,
            "no DestinationRule of Service shop/db has a subset \"v1\"");
}

TEST(HttpRoutes, WithoutAServiceForTheirHostAreReported) {
  EXPECT_TRUE(says(merged({routes("v", "gone", to("web"))}, http_route("r")),
                   "VirtualService shop/v: http rules have no effect: there is no Service "
                   "shop/gone"));
  EXPECT_TRUE(says(merged({http_route("r")}),
                   "HTTPRoute shop/r: has no effect on Service shop/web: there is none"));
  EXPECT_TRUE(says(merged({routes("v", "*.shop", to("web"))}), "http rules have no effect: host"));
  auto other = http_route("r");
  other.parents[0].port = 81;
  EXPECT_TRUE(says(merged(web_and_db(), other), "has no TCP port that the parentRef names"));
}

TEST(HttpRoutes, KeepTheirRulesWhileEndpointsComeAndGo) {
  Merger merger;
  merger.set("all", unit({service("web", {"10.96.0.1"}), service("db", {"10.96.0.2"}),
                          routes("v", "web", to("db"))}));
  const auto before = merger.build();
  EXPECT_TRUE(port_of(before).http_endpoints.at(1).empty());
  merger.set("slice", unit({slice("db-1", "db", {slice_endpoint("10.0.2.1")})}));
  const auto after = merger.build();
  EXPECT_EQ(port_of(after).http_endpoints.at(1).size(), 1u);
  EXPECT_EQ(port_of(after).http, port_of(before).http);
  merger.set("more", unit({service("other", {"10.96.0.9"})}));
  EXPECT_EQ(*merger.build()->services.find({"shop", "web"}),
            *after->services.find({"shop", "web"}));
}

TEST(HttpRoutes, FollowServicesRulesAndRoutes) {
  Merger merger;
  merger.set("web", unit(web_and_db()));
  EXPECT_EQ(rules_of(merger.build()), "");
  merger.set("all", unit({routes("v", "*", to("late"))}));
  EXPECT_NE(rules_of(merger.build()), "");
  EXPECT_EQ(port_of(merger.build(), "db").http->clusters.at(1).name(), "shop/late:?");
  merger.set("late", unit({service("late", {"10.96.0.5"})}));
  EXPECT_EQ(port_of(merger.build(), "db").http->clusters.at(1).name(), "shop/late:80");
  merger.set("route", unit({http_route("r")}));
  EXPECT_EQ(port_of(merger.build()).http->kind, "HTTPRoute");
  merger.set("route", nullptr);
  EXPECT_EQ(port_of(merger.build()).http->kind, "VirtualService");
  merger.set("all", nullptr);
  EXPECT_EQ(rules_of(merger.build()), "");
  EXPECT_EQ(rules_of(merger.build(), "late"), "");
}

TEST(GatewayRoutes, AreTriedBySpecificityWhateverTheirOrder) {
  using Kind = PathMatch::Kind;
  const auto with = [](HttpMatch match, const char* method, int headers, int queries) {
    if (method) match.method = TextMatch{TextMatch::Kind::kExact, method, false};
    for (int i = 0; i < headers; ++i) match.headers.push_back({"h" + std::to_string(i), {}, false});
    for (int i = 0; i < queries; ++i) match.query.push_back({"q" + std::to_string(i), {}, false});
    return match;
  };
  const std::vector<HttpMatch> wanted = {
      path(Kind::kExact, "/a"),
      path(Kind::kRegex, "/.*"),
      path(Kind::kSegmentPrefix, "/long"),
      with(path(Kind::kSegmentPrefix, "/b"), "GET", 0, 0),
      with(path(Kind::kSegmentPrefix, "/b"), nullptr, 2, 0),
      with(path(Kind::kSegmentPrefix, "/b"), nullptr, 1, 2),
      with(path(Kind::kSegmentPrefix, "/b"), nullptr, 1, 0),
      path(Kind::kSegmentPrefix, "/"),
  };
  const auto mesh =
      merged(web_and_db(), http_route("r", std::vector<HttpMatch>(wanted.rbegin(), wanted.rend())));
  const auto& rules = port_of(mesh).http->rules;
  ASSERT_EQ(rules.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i)
    EXPECT_EQ(rules[i].matches, std::vector<HttpMatch>{wanted[i]}) << i;
}

TEST(GatewayRoutes, OfEqualPrecedenceAreTriedByAgeThenByName) {
  const auto slash = path(PathMatch::Kind::kSegmentPrefix, "/");
  auto old = http_route("z-old", std::vector{slash});
  old.meta.created = 1;
  const auto mesh = merged(web_and_db(), http_route("b", std::vector{slash}),
                           http_route("a", {slash, slash}), old);
  std::string order;
  for (const auto& rule : port_of(mesh).http->rules) order += rule.object + "\n";
  EXPECT_EQ(order, "HTTPRoute shop/z-old\nHTTPRoute shop/a\nHTTPRoute shop/a\nHTTPRoute shop/b\n");
}

TEST(GatewayRoutes, ShadowAVirtualServiceWhichIsSaid) {
  const auto mesh = merged(web_and_db(), routes("v", "web", to("db")), http_route("r"));
  EXPECT_EQ(rules_of(mesh), "0 segments /r -> shop/web:80 [HTTPRoute shop/r]\notherwise -> 404\n");
  EXPECT_EQ(notices(mesh),
            "warning: VirtualService shop/v: has no effect on port 80 of Service shop/web: "
            "HTTPRoute shop/r is attached to it\n");
}

TEST(GatewayRoutes, OfAConsumerReplaceOthersForCallersOfItsNamespace) {
  const std::string consumer =
      "0 segments /ours, caller in tests -> shop/web:80 [HTTPRoute tests/ours]\n"
      "1 caller in tests -> answer 404 [HTTPRoute tests/ours \"nothing matched\"]\n";
  const auto ours = http_route("ours", "tests");
  EXPECT_EQ(rules_of(merged(web_and_db(), ours)), consumer + "otherwise -> shop/web:80\n");
  EXPECT_EQ(rules_of(merged(web_and_db(), ours, http_route("r"))),
            consumer + "2 segments /r -> shop/web:80 [HTTPRoute shop/r]\notherwise -> 404\n");
  const auto beside = merged(web_and_db(), ours, routes("v", "web", to("db")));
  EXPECT_EQ(rules_of(beside),
            consumer + "2 prefix /v -> shop/db:80 [VirtualService shop/v]\notherwise -> 404\n");
  EXPECT_TRUE(says(beside,
                   "VirtualService shop/v: has no effect on port 80 of Service shop/web for "
                   "callers of namespace tests: HTTPRoute tests/ours is attached to it"));
  const auto everything = http_route("ours", {path(PathMatch::Kind::kSegmentPrefix, "/")}, "tests");
  EXPECT_EQ(rules_of(merged(web_and_db(), everything)),
            "0 segments /, caller in tests -> shop/web:80 [HTTPRoute tests/ours]\n"
            "otherwise -> shop/web:80\n");
}

TEST(GatewayRoutes, ARedirectToAHostKeepsThePortThatWasDialled) {
  auto route = http_route("r");
  Redirect redirect;
  redirect.authority = "a.b";
  route.rules[0].action = redirect;
  const auto port = [&] {
    return std::get<Redirect>(port_of(merged(web_and_db(), route)).http->rules[0].action).port;
  };
  EXPECT_EQ(port(), 80);
  redirect.scheme = "https";
  redirect.port = 443;
  route.rules[0].action = redirect;
  EXPECT_EQ(port(), 443);
}

TEST(GatewayRoutes, AreAttachedByPortNumberOrName) {
  auto route = http_route("r");
  auto web =
      service("web", {"10.96.0.1"}, {{"a", 80, Protocol::kTcp, {}}, {"b", 81, Protocol::kTcp, {}}});
  const auto attached = [&] {
    const auto mesh = merged({web}, route);
    const auto& ports = (*mesh->services.find({"shop", "web"}))->ports;
    return std::pair(ports[0].http != nullptr, ports[1].http != nullptr);
  };
  EXPECT_EQ(attached(), std::pair(true, true));
  route.parents[0].port = 81;
  EXPECT_EQ(attached(), std::pair(false, true));
  route.parents[0].port.reset();
  route.parents[0].port_name = "a";
  EXPECT_EQ(attached(), std::pair(true, false));
}

}  // namespace
}  // namespace weft::model
