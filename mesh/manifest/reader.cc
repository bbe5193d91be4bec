#include "mesh/manifest/reader.h"

#include <algorithm>
#include <set>

#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

using model::Severity;

// A file cannot fill the log or a status: beyond that one line says how many more.
constexpr std::size_t kMaxNotices = 1000;

using Decode = void (*)(Decoder&, Value, std::vector<model::Object>&);

// What this build understands. A new kind is a line here and a function of its own.
struct Kind {
  std::string_view group;
  std::string_view versions;  // separated by spaces
  std::string_view kind;
  Decode decode;
};
constexpr Kind kKinds[] = {
    {"", "v1", "Service", decode_service},
    {"discovery.k8s.io", "v1", "EndpointSlice", decode_endpoint_slice},
    {"", "v1", "Pod", decode_pod},
    {"networking.istio.io", "v1 v1beta1 v1alpha3", "DestinationRule", decode_destination_rule},
    {"networking.istio.io", "v1 v1beta1 v1alpha3", "VirtualService", decode_virtual_service},
};

// Kinds it knows of, and what it says of them.
struct Other {
  Severity severity;
  std::string_view group;
  std::string_view kinds;  // separated by spaces
};
constexpr Other kOthers[] = {
    {Severity::kNotEnforced, "security.istio.io", "AuthorizationPolicy PeerAuthentication RequestAuthentication"},
    {Severity::kNotEnforced, "networking.k8s.io", "NetworkPolicy"},
    {Severity::kNotEnforced, "policy.networking.k8s.io", "AdminNetworkPolicy BaselineAdminNetworkPolicy ClusterNetworkPolicy"},
    {Severity::kNotEnforced, "cilium.io", "CiliumNetworkPolicy CiliumClusterwideNetworkPolicy"},
    {Severity::kNotEnforced, "gateway.networking.k8s.io", "BackendTLSPolicy"},
    {Severity::kWarning, "gateway.networking.k8s.io",
     "HTTPRoute GRPCRoute TCPRoute TLSRoute UDPRoute Gateway GatewayClass ReferenceGrant"},
    {Severity::kWarning, "networking.istio.io",
     "ServiceEntry Gateway WorkloadEntry WorkloadGroup Sidecar EnvoyFilter ProxyConfig"},
    {Severity::kWarning, "telemetry.istio.io", "Telemetry"},
    {Severity::kInfo, "", "ConfigMap Secret ServiceAccount Namespace Node Event PersistentVolume PersistentVolumeClaim "
                          "ResourceQuota LimitRange ReplicationController PodTemplate ComponentStatus Binding"},
    {Severity::kInfo, "apps", "Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision"},
    {Severity::kInfo, "batch", "Job CronJob"},
    {Severity::kInfo, "networking.k8s.io", "Ingress IngressClass IPAddress ServiceCIDR"},
    {Severity::kInfo, "rbac.authorization.k8s.io", "Role RoleBinding ClusterRole ClusterRoleBinding"},
    {Severity::kInfo, "autoscaling", "HorizontalPodAutoscaler"},
    {Severity::kInfo, "policy", "PodDisruptionBudget"},
    {Severity::kInfo, "storage.k8s.io", "StorageClass CSIDriver CSINode VolumeAttachment"},
    {Severity::kInfo, "coordination.k8s.io", "Lease"},
    {Severity::kInfo, "events.k8s.io", "Event"},
    {Severity::kInfo, "scheduling.k8s.io", "PriorityClass"},
    {Severity::kInfo, "apiextensions.k8s.io", "CustomResourceDefinition"},
    {Severity::kInfo, "admissionregistration.k8s.io", "ValidatingWebhookConfiguration MutatingWebhookConfiguration"},
    {Severity::kInfo, "monitoring.coreos.com", "ServiceMonitor PodMonitor PrometheusRule"},
};

bool in_words(std::string_view words, std::string_view word) {
  for (std::size_t at = 0; at < words.size();) {
    const auto end = std::min(words.find(' ', at), words.size());
    if (words.substr(at, end - at) == word) return true;
    at = end + 1;
  }
  return false;
}

class Reader {
 public:
  explicit Reader(const std::string& file) : file_(std::make_shared<const std::string>(file)) {}

  ParseResult read(std::string_view bytes, Format format) && {
    if (bytes.size() > kMaxFileBytes) {
      refuse_rest("is over 64 MB: split it", 0);
      return std::move(result_);
    }
    const auto on_document = [this](const Document& document) { read_document(document); };
    const Stop stop = format == Format::kJson ? read_json(bytes, on_document) : read_yaml(bytes, on_document);
    if (!stop.error.empty()) refuse_rest(stop.error, stop.line);
    cap_notices();
    return std::move(result_);
  }

 private:
  void note(Severity severity, int line, const std::string& object, const std::string& message) {
    result_.notices.push_back({severity, {file_, line}, object, message});
  }

  void refuse_rest(const std::string& why, int line) {
    result_.unidentified_rejection = true;
    note(Severity::kRejected, line, "", why);
  }

  void read_document(const Document& document) {
    const Value root = Value::root(document.tree);
    if (!document.error.empty()) {
      const auto id = identity(root);
      note(Severity::kRejected, document.error_line, id ? id->to_text() : "", "has " + document.error);
      return reject(id);
    }
    if (!root.present()) return;  // an empty document between two markers
    if (root.type() != Type::kMapping) return refuse_rest("is not an object: a manifest is a mapping with apiVersion and kind", document.line);
    if (is_list(root)) return read_list(root);
    read_object(root);
  }

  static bool is_list(Value root) {
    const auto kind = root["kind"].text();
    return root["items"].type() == Type::kSequence && kind.ends_with("List");
  }

  // Items of a typed list (ServiceList) may leave apiVersion and kind to it.
  void read_list(Value root) {
    for (const Value item : root["items"]) {
      if (item.type() != Type::kMapping)
        refuse_rest("has an item that is not an object", item.line());
      else
        read_object(item, root);
    }
  }

  static std::optional<model::ObjectId> identity(Value object) {
    const Value name = object["metadata"]["name"], kind = object["kind"], space = object["metadata"]["namespace"];
    if (name.type() != Type::kString || kind.type() != Type::kString) return std::nullopt;
    return model::ObjectId{std::string(kind.text()), space.type() == Type::kString ? std::string(space.text()) : "default",
                           std::string(name.text())};
  }

  void reject(const std::optional<model::ObjectId>& id) {
    if (id)
      result_.rejected.push_back(*id);
    else
      result_.unidentified_rejection = true;
  }

  void read_object(Value object, Value list = {}) {
    std::string kind(object["kind"].text()), version(object["apiVersion"].text());
    if (kind.empty() && list["kind"].text().size() > 4) {
      kind = list["kind"].text();
      kind.resize(kind.size() - 4);
      version = list["apiVersion"].text();
    }
    if (kind.empty() || version.empty() || object["kind"].type() == Type::kNumber) {
      note(Severity::kRejected, object.line(), "", kind.empty() ? "kind is missing" : "apiVersion is missing");
      return reject(std::nullopt);
    }
    const auto slash = version.find('/');
    const std::string group = slash == std::string::npos ? "" : version.substr(0, slash);
    const std::string number = slash == std::string::npos ? version : version.substr(slash + 1);
    auto id = identity(object);
    if (id) id->kind = kind;
    const std::string name = id ? id->to_text() : quoted(kind);
    for (const auto& known : kKinds)
      if (known.group == group && known.kind == kind) {
        if (!in_words(known.versions, number)) {
          note(Severity::kRejected, object.line(), name,
               "apiVersion " + quoted(version) + " is not known for it: this build reads " + std::string(known.versions));
          return reject(id);
        }
        return decode(known, object, id, name);
      }
    note_other(object, group, kind, version, name);
  }

  void decode(const Kind& kind, Value object, const std::optional<model::ObjectId>& id, const std::string& name) {
    Decoder decoder(file_, name, result_.notices);
    std::vector<model::Object> objects;
    kind.decode(decoder, object, objects);
    if (decoder.rejected()) return reject(id);
    for (auto& value : objects) {
      if (!seen_.insert(model::id_of(value)).second) {
        note(Severity::kRejected, object.line(), name, "is in this file twice: the first stays in force");
        continue;
      }
      result_.objects.push_back(std::make_shared<const model::Object>(std::move(value)));
    }
  }

  void note_other(Value object, const std::string& group, const std::string& kind, const std::string& version,
                  const std::string& name) {
    if (group.empty() && kind == "Endpoints")
      return note(Severity::kWarning, object.line(), name, "is not read: write an EndpointSlice (discovery.k8s.io/v1)");
    for (const auto& other : kOthers) {
      if (other.group != group || !in_words(other.kinds, kind)) continue;
      if (other.severity == Severity::kNotEnforced)
        return note(other.severity, object.line(), name, "is NOT ENFORCED: this build cannot enforce " + kind);
      if (other.severity == Severity::kWarning)
        return note(other.severity, object.line(), name, "has no effect: this build does not support " + kind + " yet");
      return note(other.severity, object.line(), name, "passed over: not weft's business");
    }
    note(Severity::kWarning, object.line(), name, "kind " + quoted(kind) + " of " + quoted(version) + " is unknown: passed over");
  }

  void cap_notices() {
    auto& notices = result_.notices;
    if (notices.size() <= kMaxNotices) return;
    // The worst first, so that a flood of warnings hides no rejection.
    std::stable_sort(notices.begin(), notices.end(), [](const auto& a, const auto& b) { return a.severity > b.severity; });
    const auto more = notices.size() - kMaxNotices;
    const auto severity = notices[kMaxNotices].severity;
    notices.resize(kMaxNotices);
    note(severity, 0, "", "and " + std::to_string(more) + " more of this file");
  }

  std::shared_ptr<const std::string> file_;
  ParseResult result_;
  std::set<model::ObjectId> seen_;
};

}  // namespace

ParseResult parse(std::string_view bytes, const std::string& file, Format format) {
  return Reader(file).read(bytes, format);
}

std::shared_ptr<const model::Unit> carry_over(const std::shared_ptr<const model::Unit>& previous, ParseResult fresh) {
  auto unit = std::make_shared<model::Unit>();
  unit->notices = std::move(fresh.notices);
  unit->objects = std::move(fresh.objects);
  if (!previous || (fresh.rejected.empty() && !fresh.unidentified_rejection)) return unit;
  std::set<model::ObjectId> have, rejected(fresh.rejected.begin(), fresh.rejected.end());
  for (const auto& object : unit->objects) have.insert(model::id_of(*object));
  for (const auto& object : previous->objects) {
    const auto id = model::id_of(*object);
    if (!have.contains(id) && (fresh.unidentified_rejection || rejected.contains(id))) unit->objects.push_back(object);
  }
  return unit;
}

}  // namespace weft::manifest
