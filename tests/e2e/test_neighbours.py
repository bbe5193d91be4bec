#!/usr/bin/python3
"""Beside others: kube-proxy's rules in each of its shapes, NodeLocal DNS, programs of others on the
same cgroup.

The rules are what kube-proxy writes (pkg/proxy/{iptables,nftables}/proxier.go) for a node that runs
it with --masquerade-all: the laboratory's pods share a bridge, and answers must come back through
the node that translated. They know other endpoints than weft does, so that who answers says who
translated, and they count.
"""

import base64
import ctypes
import hashlib
import os
import platform
import re
import struct
from typing import NamedTuple

from harness import NodeTest, client, main, manifests, server, wait_until
from weftlab import tool
from weftlab.node import ip

WEB = "10.96.0.10"  # weft: a and b; kube-proxy: c, as if it were late
DNS = "10.96.0.53"  # the same over UDP
OTHER = "10.96.0.20"  # kube-proxy alone knows it, at a, b and c
OTHER_DNS = "10.96.0.54"
NODE_LOCAL = "169.254.20.10"


class Port(NamedTuple):
    """A port of a service, as kube-proxy sees it."""

    service: str
    name: str
    protocol: str
    address: str
    number: int
    endpoints: list

    @property
    def text(self):
        return f"{self.service}:{self.name}"

    def digest(self, length, *more):
        digest = hashlib.sha256("".join([self.text, self.protocol, *more]).encode()).digest()
        return base64.b32encode(digest).decode()[:length]


def iptables_rules(ports):
    chains, services, rules = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING"], [], []
    chains += ["KUBE-MARK-MASQ", "KUBE-PROXY-CANARY"]
    for port in ports:
        svc, proto = f"KUBE-SVC-{port.digest(16)}", f"-m {port.protocol} -p {port.protocol}"
        where = f"{proto} -d {port.address} --dport {port.number}"
        note = f'-m comment --comment "{port.text} cluster IP"'
        chains.append(svc)
        services.append(f"-A KUBE-SERVICES {note} {where} -j {svc}")
        rules.append(f"-A {svc} {note} {where} -j KUBE-MARK-MASQ")
        for i, endpoint in enumerate(port.endpoints):
            sep = f"KUBE-SEP-{port.digest(16, endpoint)}"
            left = len(port.endpoints) - i
            pick = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
            chains.append(sep)
            rules += [
                f'-A {svc} -m comment --comment "{port.text} -> {endpoint}" {pick}-j {sep}',
                f"-A {sep} -m comment --comment {port.text} -s {endpoint.split(':')[0]} "
                "-j KUBE-MARK-MASQ",
                f"-A {sep} -m comment --comment {port.text} {proto} -j DNAT "
                f"--to-destination {endpoint}",
            ]
    return "\n".join(
        [
            "*mangle",
            ":KUBE-PROXY-CANARY - [0:0]",
            "COMMIT",
            "*filter",
            *(f":{chain} - [0:0]" for chain in ["KUBE-SERVICES", "KUBE-FORWARD"]),
            "-A FORWARD -j KUBE-FORWARD",
            "-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES",
            "-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES",
            "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
            "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
            "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "COMMIT",
            "*nat",
            *(f":{chain} - [0:0]" for chain in chains),
            '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
            '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
            '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" '
            "-j KUBE-POSTROUTING",
            "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
            "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
            "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
            "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
            *services,
            "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
            *rules,
            "COMMIT",
            "",
        ]
    )


def _nft_chain(port):
    where = f"{port.service}/{port.protocol}/{port.name}"
    return f"service-{port.digest(8)}-{where}"


def nftables_rules(ports):
    """But for the counters, which kube-proxy does without."""
    chains, services = [], []
    for port in ports:
        services.append(
            f"{port.address} . {port.protocol} . {port.number} : goto {_nft_chain(port)}"
        )
        choices = []
        for i, endpoint in enumerate(port.endpoints):
            host, number = endpoint.split(":")
            chain = f"endpoint-{port.digest(8, endpoint)}-{port.service}/{port.protocol}"
            chain += f"/{port.name}__{host}/{number}"
            choices.append(f"{i} : goto {chain}")
            chains.append(
                f"chain {chain} {{ ip saddr {host} jump mark-for-masquerade; "
                f"meta l4proto {port.protocol} dnat to {endpoint}; }}"
            )
        chains.append(
            f"chain {_nft_chain(port)} {{ "
            f"ip daddr {port.address} counter jump mark-for-masquerade; "
            f"numgen random mod {len(choices)} vmap {{ {', '.join(choices)} }}; }}"
        )
    addresses = sorted({port.address for port in ports})
    lines = "\n".join(chains)
    return f"""table ip kube-proxy {{
      comment "rules for kube-proxy"
      set cluster-ips {{ type ipv4_addr; elements = {{ {', '.join(addresses)} }}; }}
      chain cluster-ips-check {{ ip daddr @cluster-ips reject; }}
      chain mark-for-masquerade {{ mark set mark or 0x4000; }}
      chain masquerading {{
        mark and 0x4000 == 0 return; mark set mark xor 0x4000; masquerade fully-random; }}
      {lines}
      map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict;
        elements = {{ {', '.join(services)} }}; }}
      chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips; }}
      chain filter-forward {{
        type filter hook forward priority 0; ct state new jump cluster-ips-check; }}
      chain filter-output {{
        type filter hook output priority 0; ct state new jump cluster-ips-check; }}
      chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
      chain nat-output {{ type nat hook output priority -100; jump services; }}
      chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
    }}
    """


class Neighbours(NodeTest):
    DNS_PORTS = {
        "ports": [manifests.service_port(53, 5353, protocol="UDP")],
        "slice_ports": [manifests.slice_port(5353, protocol="UDP")],
    }

    @classmethod
    def prepare(cls):
        for name in cls.BACKENDS:
            cls.node[name].serve(server.udp, name, 5353)
        cls.write_service("test/web", [WEB], ["a", "b"])
        cls.write_service("test/dns", [DNS], ["a", "b"], **cls.DNS_PORTS)
        cls.outsider = cls.node.outsider(cls.client)
        # A node has a default route, without which no rule is asked about what it sends itself.
        ip(["route add 10.96.0.0/16 dev weft0"], cls.node.netns)

    @classmethod
    def in_node(cls, *command):
        status, out, error = cls.node.outside.run(tool.run, list(command))
        if status:
            raise AssertionError(f"{' '.join(command)}: {error}")
        return out

    def neighbours(self):
        return {n["name"]: n["what"] for n in self.weftd.ctl("status")["neighbours"]}

    def wait_neighbour(self, name):
        """Until status has it: what it says about it. weftd looks once a minute, and what it could
        not read one time it may the next."""
        return wait_until(lambda: self.neighbours().get(name), 200, f"status names {name}")


class Rules:
    """Common to kube-proxy's shapes: NAME in status, TOOL, load() and hits()."""

    @classmethod
    def prepare(cls):
        super().prepare()
        pods = {name: cls.node[name].v4 for name in cls.BACKENDS}
        every = [f"{pods[name]}:8080" for name in "abc"]
        every_dns = [f"{pods[name]}:5353" for name in "abc"]
        cls.ports = {
            WEB: Port("test/web", "http", "tcp", WEB, 80, every[2:]),
            DNS: Port("test/dns", "dns", "udp", DNS, 53, every_dns[2:]),
            OTHER: Port("test/other", "http", "tcp", OTHER, 80, every),
            OTHER_DNS: Port("test/other-dns", "dns", "udp", OTHER_DNS, 53, every_dns),
        }
        path = f"{cls.node.dir}/rules"
        with open(path, "w", encoding="ascii") as file:
            file.write(cls.rules(list(cls.ports.values())))
        cls.load(path)

    def through_the_rules(self, address, count, ask):
        """Runs ask(), of which `count` conversations must have been the rules' to translate."""
        before = self.hits(self.ports[address])
        value = ask()
        self.assertEqual(self.hits(self.ports[address]) - before, count, f"{address}: {value}")
        return value

    def test_what_weft_has_is_wefts(self):
        names = self.through_the_rules(WEB, 0, lambda: self.names(WEB, 12))
        self.assert_in_turn(names, ["a", "b"])
        answers = self.through_the_rules(
            DNS, 0, lambda: self.client.run(client.udp_ask, [(DNS, 53)] * 4)
        )
        self.assertEqual({sender for _, sender in answers}, {(DNS, 53)})
        self.assertEqual({text for text, _ in answers} & {"c:5353 hello"}, set())
        connected = self.through_the_rules(
            DNS, 0, lambda: self.client.run(client.udp_ask_connected, DNS, 53, 2)
        )
        self.assertEqual((connected["error"], connected["peer"]), (None, (DNS, 53)))

    def test_what_weft_does_not_have_goes_through_the_rules(self):
        # Chance leaves out one of three once in ten thousand million runs: 3 * (2/3)^60.
        names = self.through_the_rules(OTHER, 60, lambda: self.names(OTHER, 60))
        self.assertEqual(set(names), {"a", "b", "c"})
        one = self.through_the_rules(OTHER, 1, lambda: self.ask(OTHER))
        self.assertEqual((one["error"], one["peer"]), (None, (OTHER, 80)))
        answers = self.through_the_rules(
            OTHER_DNS, 1, lambda: self.client.run(client.udp_ask, [(OTHER_DNS, 53)] * 3)
        )
        self.assertEqual({sender for _, sender in answers}, {(OTHER_DNS, 53)})

    def test_who_is_not_served_goes_through_the_rules(self):
        for who in (self.outsider, self.node.outside):
            names = self.through_the_rules(WEB, 3, lambda w=who: self.names(WEB, 3, pod=w))
            self.assertEqual(names, ["c"] * 3, who.name)
            answers = self.through_the_rules(
                DNS, 1, lambda w=who: w.run(client.udp_ask, [(DNS, 53)])
            )
            self.assertEqual(answers, [("c:5353 hello", (DNS, 53))], who.name)

    def test_coming_and_going_of_weft_breaks_no_connection(self):
        self.weftd.stop()
        done = self.weftd.uninstall()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.through_the_rules(WEB, 2, lambda: self.names(WEB, 2)), ["c", "c"])
        translated_by_rules = self.client.start(client.keep_open, WEB, 80)
        self.assertEqual(translated_by_rules.receive(), "c")
        self.weftd.start()
        translated_by_weft = self.client.start(client.keep_open, WEB, 80)
        name = translated_by_weft.receive()
        self.assertIn(name, ["a", "b"])
        self.assertEqual(translated_by_rules.stop(), "c")
        self.weftd.stop()
        self.weftd.uninstall()
        self.assertEqual(translated_by_weft.stop(), name)
        self.weftd.start()

    def test_status_names_it(self):
        self.assertIn("goes through it as before", self.wait_neighbour(self.NAME))
        found = [name for name in self.neighbours() if name.startswith("kube-proxy")]
        self.assertEqual(found, [self.NAME])


class Iptables(Rules):
    NAME = "kube-proxy (iptables)"
    rules = staticmethod(iptables_rules)

    @classmethod
    def load(cls, path):
        cls.in_node(f"{cls.TOOL}-restore", path)

    def hits(self, port):
        """Conversations that came to the service's chain: the nat table sees their first packet."""
        pattern = rf"^\[(\d+):\d+\] -A KUBE-SERVICES .*-j KUBE-SVC-{port.digest(16)}$"
        return int(
            re.search(pattern, self.in_node(f"{self.TOOL}-save", "-c", "-t", "nat"), re.M).group(1)
        )


class IptablesLegacy(Iptables, Neighbours):
    TOOL = "iptables-legacy"


class IptablesNft(Iptables, Neighbours):
    TOOL = "iptables-nft"


class Nftables(Rules, Neighbours):
    NAME = "kube-proxy (nftables)"
    rules = staticmethod(nftables_rules)

    @classmethod
    def load(cls, path):
        cls.in_node("nft", "-f", path)

    def hits(self, port):
        listed = self.in_node("nft", "list", "chain", "ip", "kube-proxy", _nft_chain(port))
        return int(re.search(r"counter packets (\d+)", listed).group(1))


class NodeLocalDns(Neighbours):
    """As it is installed beside kube-proxy's iptables mode: it listens at the DNS service's address
    too, and keeps questions to itself from being translated."""

    @classmethod
    def prepare(cls):
        super().prepare()
        # A bridge, as not every kernel has dummy devices.
        lines = ["link add nodelocaldns type bridge", "link set nodelocaldns up"]
        addresses = [NODE_LOCAL, DNS]
        lines += [f"addr add {address}/32 dev nodelocaldns" for address in addresses]
        ip(lines, cls.node.netns)
        for address in addresses:
            cls.node.outside.serve(_udp_at, "cache", 53, address)
            for chain in ("PREROUTING", "OUTPUT"):
                cls.in_node(
                    *f"iptables-legacy -t raw -A {chain} -d {address} -p udp".split(),
                    *"-m udp --dport 53 -j NOTRACK".split(),
                )

    def test_its_own_address_is_untouched(self):
        asked = self.client.run(client.udp_ask, [(NODE_LOCAL, 53)] * 3)
        self.assertEqual(asked, [("cache:53 hello", (NODE_LOCAL, 53))] * 3)
        connected = self.client.run(client.udp_ask_connected, NODE_LOCAL, 53, 3)
        self.assertEqual(connected["answers"], asked)
        self.assertEqual(connected["peer"], (NODE_LOCAL, 53))

    def test_one_socket_asks_it_and_a_service_in_turn(self):
        asked = self.client.run(client.udp_ask, [(NODE_LOCAL, 53), (DNS, 53)] * 3)
        self.assertEqual([sender for _, sender in asked], [(NODE_LOCAL, 53), (DNS, 53)] * 3)
        self.assertEqual({text for text, _ in asked[::2]}, {"cache:53 hello"})

    def test_at_the_services_address_it_answers_who_is_not_served(self):
        asked = self.outsider.run(client.udp_ask, [(DNS, 53)])
        self.assertEqual(asked, [("cache:53 hello", (DNS, 53))])
        text, sender = self.client.run(client.udp_ask, [(DNS, 53)])[0]
        self.assertIn(text, ["a:5353 hello", "b:5353 hello"])
        self.assertEqual(sender, (DNS, 53))

    def test_status_names_it(self):
        self.assertIn(f"it also listens at {DNS}, ", self.wait_neighbour("NodeLocal DNS"))


def _udp_at(channel, name, port, address):
    return server.udp(channel, name, port, address=address)


class Program:
    """Somebody else's connect4 program: counts its calls and returns `verdict`. Its cgroup is the
    laboratory's, and takes it along."""

    _SYSCALL = {"x86_64": 321, "aarch64": 280}
    _MAP_CREATE, _MAP_LOOKUP, _PROG_LOAD, _PROG_ATTACH = 0, 1, 5, 8
    _ARRAY, _SOCK_ADDR, _CONNECT4, _ALLOW_MULTI = 2, 18, 10, 2

    def __init__(self, name, cgroup, verdict=1):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._map = self._bpf(self._MAP_CREATE, struct.pack("=5I", self._ARRAY, 4, 8, 1, 0))
        code = b"".join(
            struct.pack("=BBhi", *instruction)
            for instruction in [
                (0x62, 10, -4, 0),  # *(u32*)(r10 - 4) = 0
                (0xBF, 2 | 10 << 4, 0, 0),  # r2 = r10
                (0x07, 2, 0, -4),  # r2 += -4
                (0x18, 1 | 1 << 4, 0, self._map),  # r1 = map
                (0, 0, 0, 0),
                (0x85, 0, 0, 1),  # r0 = bpf_map_lookup_elem(r1, r2)
                (0x15, 0, 2, 0),  # if r0 == 0: skip 2
                (0xB7, 1, 0, 1),  # r1 = 1
                (0xDB, 1 << 4, 0, 0),  # lock *(u64*)(r0 + 0) += r1
                (0xB7, 0, 0, verdict),  # r0 = verdict
                (0x95, 0, 0, 0),  # exit
            ]
        )
        text, license_text = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
        program = self._bpf(
            self._PROG_LOAD,
            struct.pack(
                "=IIQQIIQII16sII",
                *(self._SOCK_ADDR, len(code) // 8),
                *(ctypes.addressof(text), ctypes.addressof(license_text)),
                *(0, 0, 0, 0, 0, name.encode(), 0, self._CONNECT4),
            ),
        )
        where = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            wanted = struct.pack("=4I", where, program, self._CONNECT4, self._ALLOW_MULTI)
            self._bpf(self._PROG_ATTACH, wanted)
        finally:
            os.close(where)
            os.close(program)

    def calls(self):
        key, value = ctypes.create_string_buffer(4), ctypes.create_string_buffer(8)
        pointers = (ctypes.addressof(key), ctypes.addressof(value))
        self._bpf(self._MAP_LOOKUP, struct.pack("=IIQQQ", self._map, 0, *pointers, 0))
        return struct.unpack("=Q", value.raw)[0]

    def _bpf(self, command, attributes):
        buffer = ctypes.create_string_buffer(attributes, 128)
        number = self._SYSCALL[platform.machine()]
        value = self._libc.syscall(number, command, buffer, ctypes.c_uint(len(buffer)))
        if value < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"bpf({command}): {os.strerror(error)}")
        return value


class ProgramsOfOthers(Neighbours):
    @classmethod
    def prepare(cls):
        super().prepare()
        cls.before = Program("before_weft", cls.node.cgroup)
        cls.deny = Program("deny", cls.node["c"].cgroup, verdict=0)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.after = Program("after_weft", cls.node.cgroup)

    def test_they_keep_seeing_every_call(self):
        programs = [self.before, self.after]
        for address in (WEB, self.node["a"].v4):
            counts = [program.calls() for program in programs]
            self.names(address, 5, 80 if address == WEB else 8080)
            self.assertEqual([p.calls() - n for p, n in zip(programs, counts)], [5, 5], address)

    def test_weft_serves_as_without_them(self):
        self.assert_in_turn(self.names(WEB, 6), ["a", "b"])
        self.assertEqual(self.ask(WEB)["peer"], (WEB, 80))

    def test_what_they_forbid_stays_forbidden(self):
        calls = self.deny.calls()
        for address, port in ((WEB, 80), (self.node["a"].v4, 8080)):
            refused = self.node["c"].run(client.connect_error, address, port)
            self.assertEqual(refused, "EPERM", address)
        self.assertEqual(self.deny.calls() - calls, 2)

    def test_they_stay_when_weft_goes(self):
        self.weftd.stop()
        self.assertEqual(self.weftd.uninstall().returncode, 0)
        calls = self.before.calls()
        self.names(self.node["a"].v4, 3, 8080)
        self.assertEqual(self.before.calls() - calls, 3)
        self.weftd.start()

    def test_status_names_them(self):
        self.wait_neighbour("before_weft")
        # weft's own are not among them, nor those of a pod alone.
        here = {n: what for n, what in self.neighbours().items() if self.node.cgroup in what}
        self.assertLessEqual(set(here), {"before_weft", "after_weft"})
        self.assertIn(f"at connect4 of {self.node.cgroup}: ", here["before_weft"])
        self.assertIn("before_weft", self.weftd.ctl_raw("status").stdout)


main()
