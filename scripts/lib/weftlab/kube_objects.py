"""Kubernetes objects as the API server answers them: manifests, and the fields it fills in."""

from . import manifests
from .manifests import endpoint, service_port, slice_port

__all__ = [
    "endpoint",
    "endpoint_slice",
    "namespace",
    "node",
    "pod",
    "service",
    "service_port",
    "slice_port",
]


def _managed(manager):
    """What most of a real object's bytes are: nobody reads it, a reader must skip it."""
    return [
        {
            "manager": manager,
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}, "f:spec": {'k:{"port":80}': {}}},
        }
    ]


def service(where, addresses, ports, *, annotations=None, labels=None, **more):
    """As manifests.service()."""
    made = manifests.service(where, addresses, ports, annotations=annotations, **more)
    made["metadata"].update(labels=labels, managedFields=_managed("kubectl"))
    spec = made["spec"]
    spec.setdefault("sessionAffinity", "None")
    spec.update(
        internalTrafficPolicy="Cluster",
        ipFamilyPolicy="PreferDualStack" if len(addresses) > 1 else "SingleStack",
    )
    for port in spec["ports"]:
        port["protocol"] = port.get("protocol") or "TCP"
        if port.get("targetPort") is None:
            port["targetPort"] = port["port"]
    made["status"] = {"loadBalancer": {}}
    return made


def endpoint_slice(of, endpoints, ports, *, suffix=None, family=None, pods=None):
    """As manifests.endpoint_slice(); `pods` names the pod of each endpoint."""
    made = manifests.endpoint_slice(of, endpoints, ports, suffix=suffix, family=family)
    namespace_name = made["metadata"]["namespace"]
    service_name = made["metadata"]["labels"]["kubernetes.io/service-name"]
    made["metadata"]["labels"][
        "endpointslice.kubernetes.io/managed-by"
    ] = "endpointslice-controller.k8s.io"
    made["metadata"].update(
        generateName=f"{service_name}-",
        generation=1,
        ownerReferences=[
            {
                "apiVersion": "v1",
                "kind": "Service",
                "name": service_name,
                "uid": "00000000-0000-0000-0000-000000000000",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
        managedFields=_managed("kube-controller-manager"),
    )
    for i, one in enumerate(made["endpoints"]):
        conditions = one["conditions"]
        if conditions.get("serving") is None and conditions.get("ready") is not None:
            conditions["serving"] = conditions["ready"]
        if conditions.get("terminating") is None:
            conditions["terminating"] = False
        name = pods[i] if pods else f"{service_name}-{one['addresses'][0]}"
        one["targetRef"] = {"kind": "Pod", "namespace": namespace_name, "name": name}
    return made


def pod(
    where,
    ips,
    node_name,
    *,
    labels=None,
    ready=True,
    ports=(),
    host_network=False,
    service_account="default",
    uid=None,
    phase="Running",
):
    made = manifests.pod(where, labels, ips, ready=ready, ports=ports, node=node_name)
    made["metadata"].update(uid=uid, managedFields=_managed("kubelet"))
    made["spec"].update(
        serviceAccountName=service_account, hostNetwork=host_network or None, restartPolicy="Always"
    )
    made["status"].update(phase=phase, hostIP="192.0.2.1", qosClass="BestEffort")
    return made


def namespace(name, labels=None):
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/metadata.name": name, **(labels or {})},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def node(name, *, zone=None, region=None, subzone=None, addresses=("192.0.2.1",)):
    labels = {
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": region,
        "topology.istio.io/subzone": subzone,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDR": "10.244.0.0/24"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": a} for a in addresses],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
