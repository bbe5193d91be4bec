#!/usr/bin/python3
"""weftd against a real kube-apiserver with a real etcd, both inside the node's namespace.

What tests/e2e/test_kubernetes.py proves against our own server is proven here, as far as a real one
can be made to do it, against the original. tests/kube/build makes the two programs.
"""

import http.client
import json
import os
import ssl
import subprocess
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{_HERE}/../e2e")

from harness import PORT, NodeTest, client, main, wait_until  # noqa: E402
from routes_harness import everything_to, http_route  # noqa: E402
from weftlab import kernel  # noqa: E402
from weftlab.kube_api import (  # noqa: E402
    endpoint_slice,
    namespace,
    node,
    pod,
    service,
    service_port,
)
from weftlab.kube_certs import Authority  # noqa: E402
from weftlab.kube_store import GATEWAY, ISTIO, drop_none, resource_of  # noqa: E402

WEB = "10.96.0.10"
GUARD = 120
API_PORT = 6443
_ADMIN, _WEFT = "admin-token", "weft-token"
_USER = "system:serviceaccount:weft:weft"


def api_call(method, path, body, authority, token):
    """(status, answer) of one request; runs inside the node's namespace."""
    context = ssl.create_default_context(cafile=authority)
    connection = http.client.HTTPSConnection("127.0.0.1", API_PORT, timeout=30, context=context)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    if method == "PATCH":
        headers["Content-Type"] = "application/merge-patch+json"
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read()
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()
    return answer.status, json.loads(text) if text[:1] == b"{" else text.decode()


class RealServer:
    """etcd and kube-apiserver as children of this process, in the node's namespace."""

    def __init__(self, virtual_node, programs):
        self.node = virtual_node
        self.apiserver_path, self.etcd_path = programs
        self.folder = f"{virtual_node.dir}/kube"
        self.authority = Authority(f"{self.folder}/pki")
        names = ("IP:127.0.0.1", "IP:10.96.0.1", "DNS:kubernetes.default.svc")
        self.serving = self.authority.issue("server", "/CN=kube-apiserver", names=names)
        self.accounts = self.authority.issue("accounts", "/CN=service-accounts")
        with open(f"{self.folder}/tokens.csv", "w", encoding="ascii") as file:
            file.write(f'{_ADMIN},admin,1,"system:masters"\n{_WEFT},{_USER},2\n')
        self.etcd = self.apiserver = None
        virtual_node.on_close(self.close)

    def start(self):
        folder = self.folder
        self.etcd = self._spawn(
            "etcd",
            self.etcd_path,
            *("--data-dir", f"{folder}/etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", "http://127.0.0.1:2379"),
            *("--advertise-client-urls", "http://127.0.0.1:2379"),
            *("--listen-peer-urls", "http://127.0.0.1:2380"),
        )
        self.start_apiserver()

    def start_apiserver(self):
        folder = self.folder
        self.apiserver = self._spawn(
            "kube-apiserver",
            self.apiserver_path,
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={API_PORT}",
            f"--tls-cert-file={self.serving[0]}",
            f"--tls-private-key-file={self.serving[1]}",
            f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self.accounts[1]}",
            f"--service-account-key-file={self.accounts[0]}",
            f"--cert-dir={folder}/certs",
            "--etcd-compaction-interval=2s",
            "--watch-cache=true",
        )
        wait_until(self._ready, GUARD, "kube-apiserver is ready", 0.2)

    def _spawn(self, name, *command):
        parent = os.getpid()

        def enter():
            kernel.die_with_parent(parent)
            kernel.enter_cgroup(self.node.agent_cgroup)
            kernel.enter_netns(f"{kernel.NETNS_DIR}/{self.node.netns}")

        with open(f"{self.folder}/{name}.log", "ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=enter
            )

    def _ready(self):
        if self.apiserver.poll() is not None or self.etcd.poll() is not None:
            raise AssertionError(f"a server ended:\n{self.log_tail()}")
        return self.call("GET", "/readyz")[0] == 200

    def log_tail(self):
        texts = []
        for name in ("etcd", "kube-apiserver"):
            with open(f"{self.folder}/{name}.log", encoding="utf-8", errors="replace") as file:
                texts.append(f"{name}:\n" + "".join(file.readlines()[-15:]))
        return "\n".join(texts)

    def call(self, method, path, body=None):
        return self.node.outside.run(api_call, method, path, body, self.authority.ca, _ADMIN)

    def put(self, *objects):
        """Creates or replaces; pods also get their status."""
        for value in objects:
            value = drop_none(value)
            value["metadata"].pop("managedFields", None)
            base = self._path(value)
            name = value["metadata"]["name"]
            # Asked first: creating a service that exists fails over its address, not its name.
            status, there = self.call("GET", f"{base}/{name}")
            if status == 200:
                value["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
                status, answer = self.call("PUT", f"{base}/{name}", value)
            else:
                status, answer = self.call("POST", base, value)
            if status not in (200, 201):
                raise AssertionError(f"{value['kind']} {name}: {status} {answer}")
            if value["kind"] == "Pod":
                self.call("PATCH", f"{base}/{name}/status", {"status": value["status"]})

    def delete(self, kind, namespace_name, name):
        value = {"kind": kind, "metadata": {"namespace": namespace_name}}
        self.call("DELETE", f"{self._path(value)}/{name}")

    @staticmethod
    def _path(value):
        if value["kind"].startswith("ClusterRole"):
            return f"/apis/rbac.authorization.k8s.io/v1/{value['kind'].lower()}s"
        if value["kind"] == "CustomResourceDefinition":
            return "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        resource = resource_of(value["kind"])
        inside = f"/namespaces/{value['metadata']['namespace']}" if resource.namespaced else ""
        return f"{resource.prefix}{inside}/{resource.plural}"

    def kubeconfig(self, path):
        text = f"""apiVersion: v1
kind: Config
clusters:
- name: real
  cluster: {{server: "https://127.0.0.1:{API_PORT}", certificate-authority: {self.authority.ca}}}
users:
- name: weft
  user: {{token: {_WEFT}}}
contexts:
- name: real
  context: {{cluster: real, user: weft}}
current-context: real
"""
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def kill_apiserver(self):
        self.apiserver.kill()
        self.apiserver.wait()

    def close(self):
        for process in (self.apiserver, self.etcd):
            if process and process.poll() is None:
                process.kill()
                process.wait()


def _role(resources):
    rules = [
        {"apiGroups": [group], "resources": names, "verbs": ["get", "list", "watch"]}
        for group, names in resources.items()
    ]
    meta = {"name": "weft"}
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    return {**kind, "kind": "ClusterRole", "metadata": meta, "rules": rules}


_BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "weft"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "weft"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": _USER}],
}
_CORE = ["services", "pods", "nodes", "namespaces"]
_CUSTOM = {
    ISTIO: ["destinationrules", "virtualservices", "serviceentries"],
    GATEWAY: ["httproutes"],
}
_FULL = {"": _CORE, "discovery.k8s.io": ["endpointslices"], **_CUSTOM}


def _definition(plural):
    """A CustomResourceDefinition that takes everything: what is in them is weftd's to judge."""
    resource = resource_of(plural)
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    # The server takes definitions of *.k8s.io only with a word on who approved them.
    approval = {"api-approved.kubernetes.io": "unapproved, of a test"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.full_name, "annotations": approval},
        "spec": {
            "group": resource.group,
            "scope": "Namespaced",
            "names": {
                "plural": plural,
                "singular": resource.kind.lower(),
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
            },
            "versions": [version],
        },
    }


class ApiServer(NodeTest):
    FLAGS = ["--enrol", "all"]
    START = False

    @classmethod
    def prepare(cls):
        built = subprocess.run([f"{_HERE}/build"], stdout=subprocess.PIPE, text=True, check=True)
        cls.api = RealServer(cls.node, built.stdout.split())
        cls.api.start()
        cls.weftd.sources = [f"kubernetes:{cls.api.kubeconfig(f'{cls.node.dir}/kubeconfig')}"]
        cls.markers = 0
        cls.api.put(namespace("test"), node(cls.node.name), _role(_FULL), _BINDING)
        cls.define(*(plural for plurals in _CUSTOM.values() for plural in plurals))
        cls.api.put(
            *(pod(f"test/{name}", [cls.node[name].v4], cls.node.name) for name in cls.BACKENDS)
        )
        cls.put_service(
            "test/ballast", "10.96.255.250", [f"10.99.0.{i + 1}" for i in range(64)]
        )
        cls.put_service("test/web", WEB, "abc")
        cls.weftd.start()

    @classmethod
    def define(cls, *plurals):
        cls.api.put(*map(_definition, plurals))
        for plural in plurals:
            path = f"{resource_of(plural).prefix}/{plural}"
            wait_until(
                lambda p=path: cls.api.call("GET", p)[0] == 200, GUARD, f"{plural} are served"
            )

    @classmethod
    def put_service(cls, where, address, pods):
        endpoints = [cls.node[p].v4 if p in cls.node.pods else p for p in pods]
        cls.api.put(service(where, [address], [service_port(80, PORT)]))
        cls.api.put(endpoint_slice(where, endpoints, [PORT]))

    def setUp(self):
        self.weftd.wait_service("test/web", 3, GUARD)

    def marker(self):
        type(self).markers += 1
        where = f"test/marker-{self.markers}"
        self.api.put(service(where, [f"10.96.200.{self.markers}"], [service_port(80, PORT)]))
        self.weftd.wait_service(where, 0, GUARD)
        self.api.put(endpoint_slice(where, ["10.98.0.1"], [PORT]))
        self.weftd.wait_service(where, 1, GUARD)

    def writes(self):
        """Map entries written so far. Metrics tell of a plan a moment after it is in force."""

        def told():
            samples = self.weftd.metrics()
            generation = self.weftd.ctl("status")["generation"]
            return samples.sum("weft_config_generation") == generation and samples

        samples = wait_until(told, GUARD, "metrics have the generation in force")
        return samples.sum("weft_map_writes_total")

    def writes_of(self, step):
        before = self.writes()
        step()
        self.marker()
        return self.writes() - before

    def error(self):
        return self.weftd.ctl("status")["sources"][0]["error"]

    def test_changes_are_followed(self):
        self.assert_in_turn(self.names(WEB, 6), ["a", "b", "c"])
        self.put_service("test/follow", "10.96.0.20", "a")
        self.weftd.wait_service("test/follow", 1, GUARD)
        self.assertEqual(self.ask("10.96.0.20")["name"], "a")
        self.put_service("test/follow", "10.96.0.20", "bc")
        self.weftd.wait_service("test/follow", 2, GUARD)
        self.assert_in_turn(self.names("10.96.0.20", 4), ["b", "c"])
        self.api.delete("Service", "test", "follow")
        self.marker()
        wait_until(
            lambda: self.ask("10.96.0.20")["error"] in ("EHOSTUNREACH", "ENETUNREACH"),
            GUARD,
            "the service is gone",
        )

    def rules(self):
        """Whose rules the port has, in their order."""
        ports = self.weftd.ctl("route", "list", "--service", "test/web")
        return [rule["object"] for port in ports for rule in port["rules"]]

    def wait_rules(self, *wanted):
        wait_until(lambda: self.rules() == list(wanted), GUARD, f"rules of {wanted}")

    def captured(self):
        return self.weftd.metrics().sum("istio_requests_total")

    def test_http_rules_come_and_go(self):
        self.wait_rules()
        self.api.put(everything_to("test/web"))
        self.wait_rules("VirtualService test/web")
        wait_until(
            lambda: self.names(WEB, 1) and self.captured() > 0, GUARD, "the proxy serves by them"
        )
        every = {"backendRefs": [{"name": "web", "port": 80}]}
        self.api.put(http_route("test/gate", "web", every))
        self.wait_rules("HTTPRoute test/gate")  # the other is in its shadow
        self.api.put(http_route("test/gate", "web", every, every))
        self.wait_rules(*["HTTPRoute test/gate"] * 2)
        self.api.delete("HTTPRoute", "test", "gate")
        self.wait_rules("VirtualService test/web")
        self.assertEqual(set(self.names(WEB, 12)), {"a", "b", "c"})
        self.api.delete("VirtualService", "test", "web")
        self.wait_rules()
        self.assertEqual(self.error(), "")

    def test_a_restarted_server_costs_no_connection_and_no_write(self):
        def restart():
            self.api.kill_apiserver()
            wait_until(self.error, GUARD, "weftd names the error")
            self.api.start_apiserver()
            wait_until(lambda: not self.error(), GUARD, "the source is in order again")

        self.marker()
        alone = self.writes_of(lambda: None)
        job = self.client.start(client.traffic, WEB, 80)
        job.receive()
        self.assertEqual(self.writes_of(restart), alone)
        traffic = job.stop()
        self.assertEqual(traffic["failures"], [])
        self.assertGreater(traffic["requests"], 0)

    def test_a_missing_rule_is_named(self):
        self.api.put(_role({"": _CORE}))
        self.weftd.stop()
        self.weftd.start("--source-timeout", "1s", wait=False)
        try:
            wait_until(lambda: self.weftd.page("/healthz")[0] == 200, GUARD, "weftd answers")
            wait_until(lambda: "endpointslices" in self.error(), GUARD, "status names the rule")
            self.assertIn("discovery.k8s.io", self.error())
        finally:
            self.api.put(_role(_FULL))
        wait_until(lambda: not self.error(), GUARD, "the source is in order again")
        self.marker()


if __name__ == "__main__":
    main()
