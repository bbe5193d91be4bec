// Kinds that no decoder reads, and what is said of them: a policy that is not kept makes `check`
// fail, routing that does not happen is a warning, and what is not a mesh's business is passed
// over.
#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

using model::Severity;

struct Kinds {
  Severity severity;
  std::string_view group;
  std::string_view kinds;
};
constexpr Kinds kKnown[] = {
    {Severity::kNotEnforced, "security.istio.io",
     "AuthorizationPolicy PeerAuthentication RequestAuthentication"},
    {Severity::kNotEnforced, "networking.k8s.io", "NetworkPolicy"},
    {Severity::kNotEnforced, "policy.networking.k8s.io",
     "AdminNetworkPolicy BaselineAdminNetworkPolicy ClusterNetworkPolicy"},
    {Severity::kNotEnforced, "cilium.io", "CiliumNetworkPolicy CiliumClusterwideNetworkPolicy"},
    {Severity::kNotEnforced, "crd.projectcalico.org", "NetworkPolicy GlobalNetworkPolicy"},
    {Severity::kNotEnforced, "projectcalico.org", "NetworkPolicy GlobalNetworkPolicy"},
    {Severity::kNotEnforced, "gateway.networking.k8s.io", "BackendTLSPolicy"},
    {Severity::kWarning, "gateway.networking.k8s.io",
     "GRPCRoute TCPRoute TLSRoute UDPRoute Gateway GatewayClass ReferenceGrant"},
    {Severity::kWarning, "networking.istio.io",
     "Gateway WorkloadEntry WorkloadGroup Sidecar EnvoyFilter ProxyConfig"},
    {Severity::kWarning, "telemetry.istio.io", "Telemetry"},
    {Severity::kWarning, "extensions.istio.io", "WasmPlugin"},
    {Severity::kInfo, "",
     "ConfigMap Secret ServiceAccount Event PersistentVolume PersistentVolumeClaim "
     "ResourceQuota LimitRange ReplicationController PodTemplate ComponentStatus Binding"},
    {Severity::kInfo, "apps", "Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision"},
    {Severity::kInfo, "batch", "Job CronJob"},
    {Severity::kInfo, "networking.k8s.io", "Ingress IngressClass IPAddress ServiceCIDR"},
    {Severity::kInfo, "rbac.authorization.k8s.io",
     "Role RoleBinding ClusterRole ClusterRoleBinding"},
    {Severity::kInfo, "autoscaling", "HorizontalPodAutoscaler"},
    {Severity::kInfo, "autoscaling.k8s.io", "VerticalPodAutoscaler"},
    {Severity::kInfo, "policy", "PodDisruptionBudget PodSecurityPolicy"},
    {Severity::kInfo, "storage.k8s.io",
     "StorageClass CSIDriver CSINode CSIStorageCapacity VolumeAttachment VolumeAttributesClass"},
    {Severity::kInfo, "coordination.k8s.io", "Lease"},
    {Severity::kInfo, "events.k8s.io", "Event"},
    {Severity::kInfo, "node.k8s.io", "RuntimeClass"},
    {Severity::kInfo, "scheduling.k8s.io", "PriorityClass"},
    {Severity::kInfo, "flowcontrol.apiserver.k8s.io", "FlowSchema PriorityLevelConfiguration"},
    {Severity::kInfo, "certificates.k8s.io", "CertificateSigningRequest"},
    {Severity::kInfo, "apiextensions.k8s.io", "CustomResourceDefinition"},
    {Severity::kInfo, "apiregistration.k8s.io", "APIService"},
    {Severity::kInfo, "admissionregistration.k8s.io",
     "ValidatingWebhookConfiguration MutatingWebhookConfiguration ValidatingAdmissionPolicy "
     "ValidatingAdmissionPolicyBinding"},
    {Severity::kInfo, "monitoring.coreos.com", "ServiceMonitor PodMonitor PrometheusRule"},
    {Severity::kInfo, "kustomize.config.k8s.io", "Kustomization Component"},
};

}  // namespace

Remark remark_on(std::string_view group, std::string_view kind) {
  if (group.empty() && kind == "Endpoints")
    return {Severity::kWarning, "is not read: write an EndpointSlice (discovery.k8s.io/v1)"};
  for (const auto& known : kKnown) {
    if (known.group != group || !in_words(known.kinds, kind)) continue;
    const std::string name(kind);
    if (known.severity == Severity::kNotEnforced)
      return {known.severity, "is NOT ENFORCED by this build: it has nothing that could keep a " +
                                  name + ", so connections that it forbids are made"};
    if (known.severity == Severity::kWarning)
      return {known.severity, "has no effect: " + name + " is not supported by this build"};
    return {known.severity, "passed over: not a mesh's business"};
  }
  const auto of = group.empty() ? std::string("v1") : cleaned(group, 80);
  return {Severity::kWarning,
          "unknown kind " + quoted(kind) + " of " + of + ": passed over, it has no effect"};
}

}  // namespace weft::manifest
