"""What the tests of whole nodes with HTTP rules stand on: backends that say what they were asked, callers
that keep their connections, VirtualServices and HTTPRoutes as Python values."""

import contextlib
import http.client
import http.server
import json
import os
import socket
import socketserver
import threading
import time

import yaml
from harness import NodeTest, manifests, wait_until

BACKEND_PORT = 8080
GUARD_SECONDS = 20  # a hang, not a slow machine


class _Echo(http.server.BaseHTTPRequestHandler):
    """Says who answers, what was asked and by whom. Who asks may say more: `x-fail-at: NAME` makes that
    backend answer 503, `x-slow: SECONDS` makes each wait."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body are one segment

    def do_GET(self):
        time.sleep(float(self.headers.get("x-slow", 0)))
        fails = self.headers.get("x-fail-at") == self.server.name
        body = json.dumps(
            {
                "name": self.server.name,
                "method": self.command,
                "path": self.path,
                "host": self.headers["host"],
                "headers": {key.lower(): value for key, value in self.headers.items()},
                "peer": [self.client_address[0].removeprefix("::ffff:"), self.client_address[1]],
            }
        ).encode() + b"\n"
        self.send_response(503 if fails else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_OPTIONS = do_GET

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):
            super().handle()


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    address_family = socket.AF_INET6
    request_queue_size = 1024

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks a name server


def echo(channel, name, port=BACKEND_PORT):
    """A job: an HTTP/1.1 backend of that name until it is stopped."""
    server = _Server(("::", port), _Echo)
    server.name = name
    threading.Thread(target=server.serve_forever, daemon=True).start()
    channel.send("listening")
    channel.wait_for_stop()
    server.shutdown()
    server.server_close()


def _answer(connection):
    answer = connection.getresponse()
    body = answer.read()
    with contextlib.suppress(ValueError):
        body = json.loads(body)
    headers = {key.lower(): value for key, value in answer.getheaders()}
    return {"status": answer.status, "headers": headers, "body": body}


def fetch(address, paths=("/",), headers=None, port=80, method="GET"):
    """One connection that asks for every path: [{"status", "headers", "body", "local"}]; what a backend
    says comes as a dict. `local` is the caller's own end."""
    connection = http.client.HTTPConnection(address, port, timeout=GUARD_SECONDS)
    answers = []
    try:
        connection.connect()
        local = list(connection.sock.getsockname()[:2])
        for path in paths:
            connection.request(method, path, headers=headers or {})
            answers.append({**_answer(connection), "local": local})
        return answers
    finally:
        connection.close()


def held(channel, address, port=80):
    """A job: one connection that is asked for "/" whenever 50 ms are over, until it is stopped; None or
    what ended it, and how often it was answered."""
    connection = http.client.HTTPConnection(address, port, timeout=GUARD_SECONDS)
    answered = 0
    try:
        connection.connect()
        first = connection.sock
        while not channel.stopping():
            connection.request("GET", "/")
            answer = _answer(connection)
            if answer["status"] != 200 or connection.sock is not first:
                return f"{answer} on the connection {connection.sock}", answered
            answered += 1
            if answered == 1:
                channel.send(answer["body"])
            time.sleep(0.05)
        return None, answered
    except (OSError, http.client.HTTPException) as error:
        return repr(error), answered
    finally:
        connection.close()


class _Caller:
    """Keeps one connection and replaces it where the other side said that it closes."""

    REQUEST = b"GET / HTTP/1.1\r\nHost: service\r\n\r\n"

    def __init__(self, where):
        self.where = where
        self.sock = None

    def ask(self):
        """True: it was answered with 200."""
        if self.sock is None:
            self.sock = socket.create_connection(self.where, GUARD_SECONDS)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(self.REQUEST)
        data = b""
        while b"\r\n\r\n" not in data or not data.endswith(b"}\n"):
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionResetError(f"closed after {data[:40]!r}")
            data += more
        if b"connection: close" in data.lower():
            self.close()
        return data.startswith(b"HTTP/1.1 200")

    def close(self):
        if self.sock:
            self.sock.close()
        self.sock = None


def requests_kept(channel, address, port=80):
    """A job: requests one after another on kept connections until it is stopped. Returns how many, and
    what went wrong."""
    caller, count, failures = _Caller((address, port)), 0, []
    while not channel.stopping():
        fresh = caller.sock is None
        try:
            if not caller.ask():
                failures.append(f"request {count}: not 200")
        except OSError as error:
            failures.append(f"request {count} on a {'fresh' if fresh else 'kept'} one: {error!r}")
            caller.close()
        count += 1
        if count == 1:
            channel.send("first request done")
    caller.close()
    return count, failures


def virtual_service(where, host, *rules):
    meta = dict(zip(("namespace", "name"), where.split("/")))
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": meta,
        "spec": {"hosts": [host], "http": list(rules)},
    }


def to(host, subset=None, **more):
    """An HTTPRouteDestination."""
    return {"destination": {"host": host, "subset": subset}, **more}


def everything_to(where):
    """A VirtualService that does no more than make the service the proxy's."""
    return virtual_service(where, where.split("/")[1], {"route": [to(where.split("/")[1])]})


def http_route(where, service, *rules, namespace=None):
    """`namespace`: the service's, where it is another."""
    meta = dict(zip(("namespace", "name"), where.split("/")))
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": meta,
        "spec": {
            "parentRefs": [
                {"group": "", "kind": "Service", "name": service, "namespace": namespace, "port": 80}
            ],
            "rules": list(rules),
        },
    }


class RoutesTest(NodeTest):
    """PODS are in the mesh as Pods, with LABELS {name: labels}, in one namespace but for those that
    NAMESPACES has; all but `client` and `other` are backends."""

    LABELS = {}
    NAMESPACES = {}
    BACKENDS = []
    PODS = ["client", "other", "a", "b", "c"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = cls.node.pods.get("other")

    @classmethod
    def write_pods(cls, namespace="test"):
        cls.servers = {}
        pods = []
        for name in cls.PODS:
            pod = cls.node[name]
            labels = {"app": name, **cls.LABELS.get(name, {})}
            where = f"{cls.NAMESPACES.get(name, namespace)}/{name}"
            pods.append(manifests.pod(where, labels, [pod.v4, pod.v6]))
            if name not in ("client", "other"):
                cls.up(name)
        cls.mesh.write(f"pods-{namespace}.yaml", *pods)

    @classmethod
    def up(cls, name):
        cls.servers[name] = cls.node[name].serve(echo, name)

    @classmethod
    def down(cls, name):
        cls.servers.pop(name).stop()

    def fetch(self, address, paths, pod=None, headers=None, method="GET"):
        return (pod or self.client).run(fetch, address, list(paths), headers, 80, method)

    def get(self, address, path="/", pod=None, headers=None, method="GET"):
        return self.fetch(address, [path], pod, headers, method)[0]

    def answered_by(self, address, count=1, path="/", headers=None, pod=None):
        """The names of backends, one connection each."""
        return [
            answer["body"]["name"]
            for answer in (self.get(address, path, pod, headers) for _ in range(count))
        ]

    def is_captured(self, answer):
        """Whether a proxy was between: then the backend does not see the caller's own port."""
        return answer["body"]["peer"][1] != answer["local"][1]

    def proxy(self):
        return self.weftd.ctl("status")["proxy"]

    def wait_serving(self, but_not=0):
        def serves():
            now = self.proxy()
            return (
                now["state"] == "serving"
                and now["pid"] != but_not
                and now["captured"] >= len(self.PODS)
            )

        wait_until(serves, 30, "a proxy serves the node's pods")
        return self.proxy()["pid"]

    def count(self, name, **labels):
        return self.weftd.metrics().sum(name, **labels)

    def setUp(self):
        self.wait_serving()


def article(name):
    """The objects of one of the article's files."""
    path = os.path.abspath(f"{os.path.dirname(__file__)}/../golden/article/{name}")
    with open(path, encoding="utf-8") as file:
        return list(yaml.safe_load_all(file))
