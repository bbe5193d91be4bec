// The objects people write, as far as weft uses them: what manifest readers produce and merge()
// joins. Plain values. A field that is not here was reported by the reader, not dropped in silence.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "mesh/model/address.h"
#include "mesh/model/http.h"
#include "mesh/model/notice.h"
#include "mesh/model/traffic.h"

namespace weft::model {

enum class Protocol : std::uint8_t { kTcp = 6, kUdp = 17 };  // IANA numbers, as in IP headers
const char* to_text(Protocol protocol);                      // "TCP", "UDP"

// What a Service says of the bytes on a port: its appProtocol, else its name's first word.
// kUnknown: nothing that we know; it may be HTTP/1.1.
enum class AppProtocol : std::uint8_t { kUnknown, kHttp, kHttp2, kGrpc, kTls, kTcp };
const char* to_text(AppProtocol protocol);  // "unknown", "HTTP", "HTTP/2", "gRPC", "TLS", "TCP"

using Labels = std::map<std::string, std::string>;

struct ObjectMeta {
  std::string namespace_name = "default";
  std::string name;
  Labels labels;
  Labels annotations;  // those that begin with "weft.mesh/" only
  // metadata.creationTimestamp in seconds since 1970; absent counts as newest (nobody knows its
  // age).
  std::optional<std::int64_t> created;
  Origin origin;  // of the document's first line (a List item: of the item)

  bool operator==(const ObjectMeta&) const = default;
};

// targetPort: a number, or the name of a container port. Absent means the service port's own
// number.
using TargetPort = std::variant<std::uint16_t, std::string>;

enum class Balancer : std::uint8_t {
  kRoundRobin,
  kRandom,
  kSourceHash,
  kRingHash,
  kLeastRequest,
  kPeakEwma
};
// "round-robin", "random", "maglev", "ring-hash", "least-request", "peak-ewma"
const char* to_text(Balancer balancer);

struct ServicePortSpec {
  std::string name;
  std::uint16_t port = 0;
  Protocol protocol = Protocol::kTcp;
  std::optional<TargetPort> target;
  AppProtocol app_protocol = AppProtocol::kUnknown;

  bool operator==(const ServicePortSpec&) const = default;
};

// Annotations weft.mesh/priority and weft.mesh/weight of a Pod, or of a slice for all in it.
struct Rank {
  std::uint8_t priority = 0;  // 0 is served first; others stand by
  std::uint16_t weight = 1;

  bool operator==(const Rank&) const = default;
};

struct EntryEndpoint {
  Address address;
  std::map<std::string, std::uint16_t> ports;  // by a port's name; others lead to their target
  Labels labels;                               // for subsets
  std::string region, zone;
  Rank rank;

  bool operator==(const EntryEndpoint&) const = default;
};

// What a ServiceEntry has that a Service has not: names that are the same from everywhere, and
// endpoints of its own. Everything else of it is a Service's.
struct EntryPart {
  std::vector<std::string> hosts;      // never empty, no wildcards; the first names the service
  std::vector<std::string> export_to;  // namespaces, "." or "*"; empty: everywhere
  std::vector<EntryEndpoint> endpoints;

  bool operator==(const EntryPart&) const = default;
};

// A Service or, with `entry`, a ServiceEntry.
struct ServiceObject {
  ObjectMeta meta;
  std::vector<Address> cluster_ips;   // empty for headless services and where nobody assigned one
  std::vector<Address> external_ips;  // further addresses, served alike
  bool headless = false;              // clusterIP: None
  // ExternalName, an entry with nobody to balance among: known, reported, not served.
  bool unserved_type = false;
  bool publish_not_ready = false;
  std::optional<std::chrono::seconds> affinity;  // sessionAffinity: ClientIP and its timeout
  Labels selector;                               // empty: none
  std::vector<ServicePortSpec> ports;
  std::optional<Balancer> balancer;  // annotation weft.mesh/balancer; beats a DestinationRule's
  TrafficWishes traffic;
  std::optional<EntryPart> entry;

  bool operator==(const ServiceObject&) const = default;
};

struct SlicePort {
  std::optional<std::string> name;    // nil and "" both match a service port without a name
  std::optional<std::uint16_t> port;  // nil: "all ports", of no use to a service port; skipped
  Protocol protocol = Protocol::kTcp;

  bool operator==(const SlicePort&) const = default;
};

struct SliceEndpoint {
  Address
      address;  // the first of `addresses`: the API calls them fungible, kube-proxy uses the first
  bool ready = true;    // nil means true (discovery/v1)
  bool serving = true;  // nil means true... of `ready` where only that is given
  bool terminating = false;
  std::string zone;
  std::string node;
  std::vector<std::string> for_zones;  // hints: zones that should use it
  std::string pod;                     // targetRef, where it names a Pod; in the slice's namespace

  bool operator==(const SliceEndpoint&) const = default;
};

struct EndpointSliceObject {
  ObjectMeta meta;
  std::string service;  // label kubernetes.io/service-name; empty: belongs to nobody, ignored
  Rank rank;
  Family family = Family::kIpv4;
  std::vector<SlicePort> ports;
  std::vector<SliceEndpoint> endpoints;

  bool operator==(const EndpointSliceObject&) const = default;
};

struct ContainerPort {
  std::string name;
  std::uint16_t port = 0;
  Protocol protocol = Protocol::kTcp;

  bool operator==(const ContainerPort&) const = default;
};

struct PodObject {
  ObjectMeta meta;
  Bypass bypass = Bypass::kUnsaid;
  std::vector<Address> ips;  // status.podIPs, else status.podIP
  bool ready = false;        // condition Ready is "True"
  bool terminating = false;  // metadata.deletionTimestamp is set
  bool finished = false;     // phase Succeeded or Failed: never an endpoint
  std::string node;
  std::string zone;     // label topology.kubernetes.io/zone
  std::string subzone;  // label topology.istio.io/subzone
  Rank rank;
  std::vector<ContainerPort> ports;  // of all containers, for named target ports
  // As the node's cgroups are named by it: metadata.uid, of a mirror pod its file's hash.
  std::string uid;
  std::string service_account;
  bool host_network = false;

  bool operator==(const PodObject&) const = default;
};

// A Pod's name and labels and nothing else: what a source knows of pods of other nodes
// (meta.k8s.io's PartialObjectMetadata). It is never an endpoint; subsets look at its labels.
struct PodLabelsObject {
  ObjectMeta meta;

  bool operator==(const PodLabelsObject&) const = default;
};

// Namespaces and Nodes are asked for their labels only. Their meta.namespace_name means nothing.
struct NamespaceObject {
  ObjectMeta meta;

  bool operator==(const NamespaceObject&) const = default;
};

struct NodeObject {
  ObjectMeta meta;

  bool operator==(const NodeObject&) const = default;
};

// Some of a service's endpoints: those whose Pod has all of these labels; with no labels all.
struct Subset {
  std::string name;
  Labels labels;

  bool operator==(const Subset&) const = default;
};

// An entry of trafficPolicy.portLevelSettings: the whole policy of that service port. What it
// leaves out has its default and is not taken from the rule, whole sections neither (as pilot's
// GetPortLevelTrafficPolicy).
struct PortRule {
  std::uint16_t port = 0;
  std::optional<Balancer> balancer;
  TrafficRule traffic;
  Origin origin;

  bool operator==(const PortRule&) const = default;
};

// Of DestinationRule what this build enforces; the rest is reported by the reader.
struct DestinationRuleObject {
  ObjectMeta meta;
  std::string host;  // as written: "web", "web.shop", "web.shop.svc.cluster.local"
  std::optional<Balancer> balancer;
  TrafficRule traffic;
  std::vector<PortRule> ports = {};  // one a number
  std::vector<Subset> subsets;       // names are unique
  Origin subsets_origin;

  bool operator==(const DestinationRuleObject&) const = default;
};

struct RouteDestination {
  std::string host;    // as written, see DestinationRuleObject
  std::string subset;  // empty: all of the service's endpoints
  std::optional<std::uint16_t> port;
  // Against those of the rule's other destinations; the reader sees to it that not all are 0.
  std::uint32_t weight = 1;
  Origin origin;

  bool operator==(const RouteDestination&) const = default;
};

struct TcpRule {
  std::vector<std::uint16_t> ports;  // that were dialled; empty: every port
  std::vector<RouteDestination> destinations;
  Origin origin;

  bool operator==(const TcpRule&) const = default;
};

// Whom the HTTP rules of one object send requests to. Until merge() knows the clusters, `cluster`
// in such a rule is an index into its object's list of these.
struct HttpBackend {
  std::string host;  // as written, see DestinationRuleObject; of an HTTPRoute "NAME.NAMESPACE"
  std::string subset;
  std::optional<std::uint16_t> port;
  std::string missing;  // why it is nobody, whoever else is there; empty: it is looked up
  Origin origin;

  bool operator==(const HttpBackend&) const = default;
};

struct HttpRuleSpec {
  HttpRule rule;
  std::vector<std::uint16_t> ports;  // that were dialled, one a match of the rule; 0: every port

  bool operator==(const HttpRuleSpec&) const = default;
};

// There is none without a rule. tcp rules are the kernel's, http rules the proxy's.
struct VirtualServiceObject {
  ObjectMeta meta;
  std::vector<std::string> hosts;      // as written, see DestinationRuleObject
  std::vector<std::string> export_to;  // namespaces, "." or "*"; empty: everywhere
  std::vector<TcpRule> tcp;            // the first that matches decides
  std::vector<HttpRuleSpec> http;      // the first that matches decides
  std::vector<HttpBackend> backends = {};

  bool operator==(const VirtualServiceObject&) const = default;
};

// A Service that an HTTPRoute is attached to.
struct RouteParent {
  std::string namespace_name, name;
  std::optional<std::uint16_t> port;
  std::string port_name;  // sectionName; empty: any
  Origin origin;

  bool operator==(const RouteParent&) const = default;
};

// Of a Gateway API HTTPRoute what a mesh does. There is none without a Service as parent.
struct HttpRouteObject {
  ObjectMeta meta;
  std::vector<RouteParent> parents;
  std::vector<HttpRule> rules;  // as written; precedence is merge()'s
  std::vector<HttpBackend> backends;

  bool operator==(const HttpRouteObject&) const = default;
};

using Object =
    std::variant<ServiceObject, EndpointSliceObject, PodObject, PodLabelsObject, NamespaceObject,
                 NodeObject, DestinationRuleObject, VirtualServiceObject, HttpRouteObject>;
const ObjectMeta& meta_of(const Object& object);
const char* kind_of(const Object& object);  // "Service", "EndpointSlice", ...

// Who an object is: two documents with the same id are two versions of one object.
struct ObjectId {
  std::string kind;
  std::string namespace_name;
  std::string name;

  std::string to_text() const;  // "Service shop/web"
  auto operator<=>(const ObjectId&) const = default;
};
ObjectId id_of(const Object& object);

// What arrives together and is replaced together: one file, or one object of an API server.
struct Unit {
  std::vector<std::shared_ptr<const Object>> objects;
  std::vector<Notice> notices;
};

}  // namespace weft::model
