"""kube-proxy's rules in a node's network namespace, as its iptables and nftables modes write them
with --masquerade-all: bridged packets need not be filtered then."""

from . import tool
from .kernel import LabError
from .node import ip

_IPTABLES = """\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
{declared}
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
{rules}
COMMIT
"""
_IPTABLES_SERVICE = """\
-A KUBE-SERVICES -d {vip}/{bits} -p {proto} -m {proto} --dport {port} -j KUBE-SVC-{id}
-A KUBE-SVC-{id} -d {vip}/{bits} -p {proto} -m {proto} --dport {port} -j KUBE-MARK-MASQ
-A KUBE-SVC-{id} -m comment --comment "test -> {to}" -j KUBE-SEP-{id}
-A KUBE-SEP-{id} -s {to}/{bits} -j KUBE-MARK-MASQ
-A KUBE-SEP-{id} -p {proto} -m {proto} -j DNAT --to-destination {target}:{to_port}"""
_NFTABLES = """\
table {family} kube-proxy {{
  map service-ips {{
    type {key_type} . inet_proto . inet_service : verdict
    elements = {{ {elements} }}
  }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
  chain services {{ {family} daddr . meta l4proto . th dport vmap @service-ips; }}
  chain mark-for-masquerade {{ meta mark set mark or 0x4000; }}
  chain masquerading {{
    meta mark and 0x4000 == 0 return
    meta mark set mark xor 0x4000
    masquerade fully-random
  }}
{chains}
}}
"""
_NFTABLES_SERVICE = """\
  chain endpoint-{id} {{
    {family} saddr {to} jump mark-for-masquerade
    meta l4proto {proto} dnat to {target}:{to_port}
  }}
  chain service-{id} {{
    {family} daddr {vip} {proto} dport {port} jump mark-for-masquerade
    numgen random mod 1 vmap {{ 0 : goto endpoint-{id} }}
  }}"""


def _services(family, bits, rows):
    for vip, proto, port, to, to_port in rows:
        if (":" in vip) == (family == "ip6"):
            yield {
                "id": f"{vip}-{proto}".replace(":", "_").replace(".", "_"),
                "vip": vip,
                "proto": proto,
                "port": port,
                "to": to,
                "target": f"[{to}]" if family == "ip6" else to,
                "to_port": to_port,
                "family": family,
                "bits": bits,
            }


def _iptables(services):
    return _IPTABLES.format(
        declared="\n".join(f":KUBE-{k}-{s['id']} -" for s in services for k in ("SVC", "SEP")),
        rules="\n".join(_IPTABLES_SERVICE.format(**s) for s in services),
    )


def _nftables(family, key_type, services):
    return _NFTABLES.format(
        family=family,
        key_type=key_type,
        elements=", ".join(
            f"{s['vip']} . {s['proto']} . {s['port']} : goto service-{s['id']}" for s in services
        ),
        chains="\n".join(_NFTABLES_SERVICE.format(**s) for s in services),
    )


def install(node, mode, rows, routes=("10.96.0.0/16", "fd00:96::/64")):
    """`mode` is "iptables" or "nftables"; a row is (service address, protocol, port, endpoint, its
    port). What the node itself sends is routed before a rule turns it, so service addresses get
    `routes`; a real node has a default."""
    for family, key_type, bits, restore in (
        ("ip", "ipv4_addr", 32, "iptables-restore"),
        ("ip6", "ipv6_addr", 128, "ip6tables-restore"),
    ):
        services = list(_services(family, bits, rows))
        path = f"{node.dir}/kube-proxy-{family}"
        with open(path, "w", encoding="ascii") as file:
            file.write(
                _iptables(services)
                if mode == "iptables"
                else _nftables(family, key_type, services)
            )
        command = [restore, "--noflush", path] if mode == "iptables" else ["nft", "-f", path]
        code, _, errors = node.outside.run(tool.run, command)
        if code:
            raise LabError(f"{' '.join(command)}: {errors.strip()}")
    ip([f"route add {net} dev weft0" for net in routes], node.netns)
