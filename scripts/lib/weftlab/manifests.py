"""Kubernetes objects as Python values, and a directory of them, changed as people's tools do."""

import itertools
import os
import shutil

import yaml

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_numbers = itertools.count(1)


def _drop_none(value):
    if isinstance(value, dict):
        return {key: _drop_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_drop_none(item) for item in value]
    return value


def to_yaml(*objects):
    return yaml.dump_all([_drop_none(o) for o in objects], Dumper=_Dumper, sort_keys=False)


def _named(where):
    namespace, _, name = where.rpartition("/")
    return {"namespace": namespace or "default", "name": name}


def service_port(port, target=None, name=None, protocol=None):
    return {"name": name, "protocol": protocol, "port": port, "targetPort": target}


def service(
    where,
    addresses,
    ports,
    *,
    selector=None,
    affinity_seconds=None,
    external=None,
    annotations=None,
    created=None,
    publish_not_ready=None,
    headless=False,
):
    """`where` is "namespace/name"; `ports` are service_port()s or bare numbers."""
    ports = [service_port(p) if isinstance(p, int) else p for p in ports]
    affinity = {}
    if affinity_seconds:
        affinity = {
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": affinity_seconds}},
        }
    families = ["IPv6" if ":" in a else "IPv4" for a in addresses]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**_named(where), "annotations": annotations, "creationTimestamp": created},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None" if headless else next(iter(addresses), None),
            "clusterIPs": list(addresses) or None,
            "ipFamilies": families or None,
            "selector": selector,
            "externalIPs": external,
            "publishNotReadyAddresses": publish_not_ready,
            "ports": ports,
            **affinity,
        },
    }


def endpoint(address, ready=True, serving=None, terminating=None, zone=None, node=None):
    """Conditions of None are left out, as the API allows."""
    conditions = {"ready": ready, "serving": serving, "terminating": terminating}
    return {"addresses": [address], "conditions": conditions, "zone": zone, "nodeName": node}


def slice_port(port, name=None, protocol=None):
    return {"name": name if name is not None else "", "protocol": protocol or "TCP", "port": port}


def endpoint_slice(of, endpoints, ports, *, suffix=None, family=None, annotations=None):
    """Endpoints are endpoint()s or bare addresses; the slice's name is <service>-<suffix>."""
    endpoints = [endpoint(e) if isinstance(e, str) else e for e in endpoints]
    ports = [slice_port(p) if isinstance(p, int) else p for p in ports]
    if family is None:
        family = "IPv6" if any(":" in e["addresses"][0] for e in endpoints) else "IPv4"
    where = _named(of)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": where["namespace"],
            "name": f"{where['name']}-{suffix or family.lower()}",
            "labels": {"kubernetes.io/service-name": where["name"]},
            "annotations": annotations,
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports,
    }


def pod(where, labels, ips, ready=True, ports=(), node=None):
    """`ports` are (name, number[, protocol]) of its one container."""
    listed = [
        {"name": p[0], "containerPort": p[1], "protocol": p[2] if len(p) > 2 else None}
        for p in ports
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**_named(where), "labels": labels},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "main", "image": "main", "ports": listed}],
        },
        "status": {
            "phase": "Running",
            "podIP": ips[0],
            "podIPs": [{"ip": ip} for ip in ips],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def destination_rule(where, host, simple=None, consistent_hash=None, subsets=None, **traffic):
    """`traffic` are further fields of the traffic policy: outlierDetection={...}, connectionPool={...};
    `subsets` are {name: labels}."""
    balancer = {"simple": simple, "consistentHash": consistent_hash}
    spec = {"host": host, "trafficPolicy": {"loadBalancer": balancer, **traffic}}
    if subsets:
        spec["subsets"] = [{"name": name, "labels": labels} for name, labels in subsets.items()]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": _named(where),
        "spec": spec,
    }


def tcp_routes(where, host, weights):
    """A VirtualService with one tcp rule; `weights` are {subset of that host: weight}."""
    route = [
        {"destination": {"host": host, "subset": subset}, "weight": weight}
        for subset, weight in weights.items()
    ]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": _named(where),
        "spec": {"hosts": [host], "tcp": [{"route": route}]},
    }


def service_entry(where, host, addresses, ports, endpoints, annotations=None, **spec):
    """`ports` are {name: number}; `endpoints` are values or bare addresses; `spec` are further fields."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {**_named(where), "annotations": annotations},
        "spec": {
            "hosts": [host],
            "addresses": addresses,
            "resolution": "STATIC",
            "ports": [{"name": n, "number": p, "protocol": "TCP"} for n, p in ports.items()],
            "endpoints": [e if isinstance(e, dict) else {"address": e} for e in endpoints] or None,
            **spec,
        },
    }


class Manifests:
    """A directory weftd watches. Every change is whole: written aside, then renamed into place."""

    def __init__(self, path):
        self.path = path
        # Beside, not inside: a half-written file must never be seen, whatever its name.
        self._aside = f"{path}.aside-{os.getpid()}-{next(_numbers)}"
        os.makedirs(path, exist_ok=True)
        os.makedirs(self._aside)

    def write(self, name, *objects):
        self.write_text(name, to_yaml(*objects))

    def write_text(self, name, text):
        aside = f"{self._aside}/file"
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(aside, f"{self.path}/{name}")

    def remove(self, name):
        os.unlink(f"{self.path}/{name}")

    def swap_symlinks(self, files):
        """As kubelet updates a ConfigMap volume: fresh directory, one rename of `..data`."""
        fresh = f"..{next(_numbers)}"
        os.makedirs(f"{self.path}/{fresh}")
        for name, objects in files.items():
            with open(f"{self.path}/{fresh}/{name}", "w", encoding="utf-8") as file:
                file.write(to_yaml(*objects))
        link = f"{self.path}/..data"
        old = os.readlink(link) if os.path.islink(link) else None
        os.symlink(fresh, f"{self.path}/..data_tmp")
        os.rename(f"{self.path}/..data_tmp", link)
        for name in files:
            if not os.path.islink(f"{self.path}/{name}"):
                os.symlink(f"..data/{name}", f"{self.path}/{name}")
        if old:
            shutil.rmtree(f"{self.path}/{old}")
