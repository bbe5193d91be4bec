"""Meshes of a size, as manifests, iptables rules or nftables rules: the same services for every peer."""

import ipaddress
import json
import os

ENDPOINTS = 10
PORT = 80
TARGET = 8080


def service_address(index):
    return str(ipaddress.ip_address("10.96.0.0") + 1 + index)


def endpoint_addresses(index):
    """Of services that nobody dials: addresses that are nowhere."""
    base = ipaddress.ip_address("100.64.0.0") + index * ENDPOINTS
    return [str(base + i) for i in range(ENDPOINTS)]


def documents(index, endpoints, ready=None):
    name = f"svc-{index:05}"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "bench"},
        "spec": {"clusterIP": service_address(index), "ports": [{"name": "http", "port": PORT, "targetPort": TARGET}]},
    }
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": "bench", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": TARGET}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": ready is None or address in ready},
                "nodeName": f"node-{index % 50}",
                "zone": f"zone-{index % 3}",
            }
            for address in endpoints
        ],
    }
    return service, slice_


def yaml_text(index, endpoints, ready=None):
    """Block YAML by hand: ten thousand files in a second, as `kubectl get -o yaml` writes them."""
    service, slice_ = documents(index, endpoints, ready)
    return f"{_yaml(service, 0)}---\n{_yaml(slice_, 0)}"


def _yaml(value, depth):
    pad = "  " * depth
    text = ""
    for key, item in value.items():
        if isinstance(item, dict):
            text += f"{pad}{key}:\n{_yaml(item, depth + 1)}"
        elif isinstance(item, list):
            text += f"{pad}{key}:\n"
            for entry in item:
                if isinstance(entry, dict):
                    body = _yaml(entry, depth + 1)
                    text += f"{pad}- {body[2 * depth + 2:]}"
                else:
                    text += f"{pad}- {entry}\n"
        else:
            text += f"{pad}{key}: {json.dumps(item) if isinstance(item, bool) else item}\n"
    return text


def write_directory(path, count, dialled, real):
    """One file a service; service number `dialled` has the endpoints `real`."""
    os.makedirs(path, exist_ok=True)
    for index in range(count):
        endpoints = real if index == dialled else endpoint_addresses(index)
        with open(f"{path}/svc-{index:05}.yaml", "w", encoding="ascii") as file:
            file.write(yaml_text(index, endpoints))


def iptables_rules(count, dialled, real):
    """What kube-proxy writes in iptables mode: KUBE-SERVICES, a chain a service that chooses by
    `statistic`, a chain an endpoint that DNATs, comments included."""
    chains, services, rules = [], [], []
    for index in range(count):
        endpoints = real if index == dialled else endpoint_addresses(index)
        svc = f"KUBE-SVC-{index:016X}"[:28]
        note = f'-m comment --comment "bench/svc-{index:05}:http'
        chains.append(f":{svc} - [0:0]")
        services.append(
            f"-A KUBE-SERVICES -d {service_address(index)}/32 -p tcp {note} cluster IP\" -m tcp --dport {PORT} -j {svc}"
        )
        for i, endpoint in enumerate(endpoints):
            sep = f"KUBE-SEP-{index:012X}{i:04X}"[:28]
            chains.append(f":{sep} - [0:0]")
            left = len(endpoints) - i
            pick = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
            rules.append(f'-A {svc} {note} -> {endpoint}:{TARGET}" {pick}-j {sep}')
            rules.append(f'-A {sep} -s {endpoint}/32 {note}" -j KUBE-MARK-MASQ')
            rules.append(f'-A {sep} -p tcp {note}" -m tcp -j DNAT --to-destination {endpoint}:{TARGET}')
    return "\n".join(
        ["*nat", ":KUBE-SERVICES - [0:0]", ":KUBE-MARK-MASQ - [0:0]", *chains,
         "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
         '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
         *services, *rules, "COMMIT", ""]
    )


def nftables_rules(count, dialled, real):
    """kube-proxy's nftables mode: a verdict map from {address, protocol, port} to the service's chain, which
    chooses by numgen. One rule where kube-proxy has a chain an endpoint: in the peer's favour."""
    chains, elements = [], []
    for index in range(count):
        endpoints = real if index == dialled else endpoint_addresses(index)
        chain = f"service-{index:05}"
        choices = ", ".join(f"{i} : {endpoint} . {TARGET}" for i, endpoint in enumerate(endpoints))
        chains.append(
            f"  chain {chain} {{ ip protocol tcp dnat ip to numgen random mod {len(endpoints)} map {{ {choices} }}; }}"
        )
        elements.append(f"{service_address(index)} . tcp . {PORT} : goto {chain}")
    return "\n".join(
        ["table ip kube-proxy {", *chains,
         "  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict",
         "    elements = { " + ",\n      ".join(elements) + " } }",
         "  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }",
         "  chain nat-output { type nat hook output priority -100; jump services; }", "}", ""]
    )
