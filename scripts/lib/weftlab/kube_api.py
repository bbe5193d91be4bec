#!/usr/bin/python3
"""A Kubernetes API server for tests, written from the API's documented behaviour.

    with KubeApi(tls=True) as api:
        api.put(service("shop/web", ["10.96.0.10"], [80]))
        api.kubeconfig(path)
        ...
        api.compact()
        api.cut("services", after=100)

It serves get, list and watch of Service, Pod, Node, Namespace (core v1), EndpointSlice
(discovery.k8s.io/v1) and, with `istio`, DestinationRule, VirtualService and ServiceEntry
(networking.istio.io/v1),
with `gateway`, HTTPRoute (gateway.networking.k8s.io/v1), whole or as metadata alone: paging with
tokens that expire, resourceVersion unset, "0" and exact, selectors, bookmarks, 410 as status or in
the stream. Every fault is a method that may be called at
any time from any thread; wait_...() lets tests follow what clients do without sleeping.

As a process: kube_api.py --port 6443 --tls --dir DIR [--services 10000 --endpoints 10]
[--rate EVENTS_A_SECOND]; it prints a line of JSON when it listens.
"""

import argparse
import collections
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time

if not __package__:  # run as a program
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from weftlab import kernel
from weftlab.kube_access import NAMES, USER, Access
from weftlab.kube_faults import Faults
from weftlab.kube_http import Handler
from weftlab.kube_objects import (
    endpoint,
    endpoint_slice,
    namespace,
    node,
    pod,
    service,
    service_port,
    slice_port,
)
from weftlab.kube_store import GATEWAY, ISTIO, ApiError, Store, resource_of
from weftlab.waiting import Hang

__all__ = [
    "KubeApi",
    "endpoint",
    "endpoint_slice",
    "namespace",
    "node",
    "pod",
    "service",
    "service_port",
    "slice_port",
]

_SENT_KEPT = 200_000


class KubeApi(Faults, Access):
    """`token` of None: no bearer token is asked for. `client_certs`: a certificate of our
    authority is asked for instead (or the token, where there is one). `netns` is the path of the
    network namespace to listen in."""

    def __init__(
        self,
        *,
        host="127.0.0.1",
        port=0,
        netns=None,
        tls=False,
        token="weft-token-1",
        client_certs=False,
        gone="status",
        watch_list=False,
        bookmark_seconds=3600,
        history=100_000,
        folder=None,
        names=NAMES,
        istio=False,
        gateway=False,
    ):
        self.store = Store(history)
        self.host, self.port, self.netns = host, port, netns
        self.tls = tls
        self.token = token
        self.client_certs = client_certs
        self.gone = gone  # how a version that is too old is told: "status" or "event"
        self.watch_list = watch_list  # sendInitialEvents is known
        self.bookmark_seconds = bookmark_seconds
        # Whose custom resources are not installed.
        self.missing_groups = {
            *(() if istio else (ISTIO,)),
            *(() if gateway else (GATEWAY,)),
        }
        self.chunk_bytes = 0  # 0: a chunk is an event
        self.on_request = None  # called as (verb, plural, path) before such a request is answered
        self.lists = collections.Counter()  # first pages by plural
        self.pages = collections.Counter()  # every list request by plural
        self.watches = collections.Counter()
        self.requests = collections.Counter()  # by path
        self.forms = collections.Counter()  # by (verb, plural, Accept)
        self.answers = collections.Counter()  # by (verb, plural, status) of refused requests
        self.accepted = 0
        self.endless_bytes = 0
        self._own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="weft-lab-kube-")
        os.makedirs(self.folder, exist_ok=True)
        self._names = names
        self._sent = collections.OrderedDict()  # revision -> monotonic ns
        self._denied = set()
        self._failures = []  # [verb, plural, times left, ApiError]
        self._cuts = []  # [verb, plural, (bytes, how)]
        self._flowing = threading.Event()
        self._flowing.set()
        self._drip = None
        self._connections = set()
        self._threads = set()
        self._listener = None
        self._context = None
        self._serial = 0
        if tls:
            self.make_authority()

    # --- life ---

    def start(self):
        self._listen()
        return self

    def close(self):
        self.resume()
        self.away()
        for thread in list(self._threads):
            thread.join(10)
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def _listen(self):
        made = []

        def make():
            # A socket stays in the namespace it was made in; the thread's namespace ends with it.
            try:
                if self.netns:
                    kernel.enter_netns(self.netns)
                family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
                listener = socket.socket(family, socket.SOCK_STREAM)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((self.host, self.port))
                listener.listen(128)
                made.append(listener)
            except OSError as error:
                made.append(error)

        maker = threading.Thread(target=make)
        maker.start()
        maker.join()
        if isinstance(made[0], OSError):
            raise made[0]
        self._listener = made[0]
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept, self._listener)

    def _spawn(self, function, *args):
        def run():
            try:
                function(*args)
            finally:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, daemon=True)
        self._threads.add(thread)
        thread.start()

    def _accept(self, listener):
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            with self.store.lock:
                if listener is not self._listener:
                    connection.close()
                    return
                self.accepted += 1
                self._connections.add(connection)
                self.store.changed.notify_all()
            self._spawn(self._serve, connection, address)

    def _serve(self, connection, address):
        raw = connection
        try:
            self._flowing.wait()
            if self._context:
                connection.settimeout(30)
                connection = self._context.wrap_socket(connection, server_side=True)
                connection.settimeout(None)
                with self.store.lock:
                    if raw not in self._connections:
                        return
                    self._connections.add(connection)
            Handler(connection, address, self)
        except OSError:
            pass  # the peer left, or did not like our certificate
        finally:
            with self.store.lock:
                self._connections -= {raw, connection}
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    # --- what Handler asks ---

    def admit(self, handler, verb, resource, namespace_name, path):
        """Counts the request; raises the answer that it gets instead of what it asked for."""
        plural = resource.plural if resource else None
        with self.store.lock:
            self.requests[path] += 1
            self.forms[(verb, plural, handler.headers.get("Accept", ""))] += 1
            error = self._refusal(handler, verb, resource, namespace_name)
            if error:
                self.answers[(verb, plural, error.code)] += 1
            elif verb == "list":
                self.pages[plural] += 1
                self.lists[plural] += "continue=" not in handler.path
            elif verb == "watch":
                self.watches[plural] += 1
            self.store.changed.notify_all()
        if error:
            raise error
        if self.on_request:
            self.on_request(verb, plural, handler.path)

    def has(self, connection):
        """It was not dropped meanwhile; asked with the store's lock."""
        return connection in self._connections

    def _refusal(self, handler, verb, resource, namespace_name):
        if not self._known(handler):
            return ApiError(401, "Unauthorized", "Unauthorized")
        if not resource:
            return None
        if {(resource.plural, verb), (resource.plural, "*")} & self._denied:
            where = "at the cluster scope"
            if namespace_name:
                where = f'in the namespace "{namespace_name}"'
            return ApiError(
                403,
                "Forbidden",
                f'{resource.full_name} is forbidden: User "{USER}" cannot {verb} resource '
                f'"{resource.plural}" in API group "{resource.group}" {where}',
                details=resource.details,
            )
        for failure in self._failures:
            if failure[0] in ("*", verb) and failure[1] in ("*", resource.plural):
                failure[2] -= 1
                if failure[2] <= 0:
                    self._failures.remove(failure)
                return failure[3]
        return None

    def _known(self, handler):
        if self.client_certs and self.tls and handler.connection.getpeercert():
            return True
        if self.token is not None:
            return handler.headers.get("Authorization") == f"Bearer {self.token}"
        return not self.client_certs

    def take_cut(self, verb, resource):
        with self.store.lock:
            for cut in self._cuts:
                if cut[0] == verb and cut[1] in ("*", resource.plural):
                    self._cuts.remove(cut)
                    return cut[2]
        return None

    def paced_write(self, connection, data):
        self._flowing.wait()
        drip = self._drip
        if not drip:
            return connection.sendall(data)
        while data:
            size, pause = self._drip or (len(data), 0)
            connection.sendall(data[:size])
            data = data[size:]
            time.sleep(pause)  # the fault itself
            self._flowing.wait()

    def note_sent(self, items):
        now = time.monotonic_ns()
        with self.store.lock:
            for revision, _ in items:
                if revision:
                    self._sent.setdefault(revision, now)
            while len(self._sent) > _SENT_KEPT:
                self._sent.popitem(last=False)

    # --- objects ---

    def put(self, *objects):
        """The revision of the last one. Nothing is validated: fields of the wrong type are kept."""
        for value in objects:
            revision = self.store.put(value)
        return revision

    def delete(self, kind, namespace_name, name):
        return self.store.delete(kind, namespace_name, name)

    def objects(self, kind):
        return self.store.objects(kind)

    def sent_ns(self, revision):
        """CLOCK_MONOTONIC just before the event's bytes were first given to the kernel; or None."""
        with self.store.lock:
            return self._sent.get(revision)

    # --- waiting ---

    def wait(self, predicate, what, guard_seconds=60):
        """Until predicate() is true; it is looked at after every request and end of a stream."""
        deadline = time.monotonic() + guard_seconds
        with self.store.changed:
            while not (value := predicate()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Hang(f"still not so after {guard_seconds} s: {what}")
                self.store.changed.wait(min(left, 1))
            return value

    def watchers(self, kind=None):
        """Streams that are open now."""
        plural = resource_of(kind).plural if kind else None
        with self.store.lock:
            return sum(plural in (None, w.resource.plural) for w in self.store.watches)

    def wait_watchers(self, count, kind=None, guard_seconds=60):
        what = f"{count} watches of {kind or 'anything'} are open"
        self.wait(lambda: self.watchers(kind) >= count, what, guard_seconds)

    def wait_sent(self, guard_seconds=60):
        """Until every open stream has sent all it had to."""
        self.wait(
            lambda: not any(w.items or w.busy for w in self.store.watches),
            "all events are sent",
            guard_seconds,
        )


def ballast(count, endpoints=10, name="ballast"):
    """`count` services with a slice of `endpoints` each, as (service, slice) pairs."""
    for i in range(count):
        where = f"{name}-{i % 50}/s{i:05}"
        first = i * endpoints
        addresses = [
            f"10.{128 + (n >> 16)}.{n >> 8 & 255}.{n & 255}"
            for n in range(first, first + endpoints)
        ]
        yield (
            service(where, [f"10.{64 + (i >> 16)}.{i >> 8 & 255}.{i & 255}"], [80]),
            endpoint_slice(where, addresses, [8080]),
        )


def _options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dir", help="for certificates, token and kubeconfig; kept at the end")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--client-certs", action="store_true")
    parser.add_argument("--token", help="the bearer token asked for; without it: none")
    parser.add_argument("--services", type=int, default=0, help="so many, with a slice each")
    parser.add_argument("--endpoints", type=int, default=10, help="endpoints of each slice")
    parser.add_argument("--rate", type=float, default=0, help="slice events a second")
    parser.add_argument("--bookmarks", type=float, default=60, help="seconds between bookmarks")
    return parser.parse_args()


def _change_slices(api, count, endpoints, rate):
    """Endpoints of slices become ready and not ready again, one slice after the other."""
    pairs = list(ballast(count, endpoints))
    begin, made = time.monotonic(), 0
    while True:
        while made < rate * (time.monotonic() - begin):
            made_slice = pairs[made % count][1]
            one = made_slice["endpoints"][made // count % endpoints]
            ready = not one["conditions"]["ready"]
            one["conditions"].update(ready=ready, serving=ready)
            api.put(made_slice)
            made += 1
        time.sleep(0.0005)


def main():
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    api = KubeApi(
        host=options.host,
        port=options.port,
        tls=options.tls,
        token=options.token,
        client_certs=options.client_certs,
        folder=options.dir,
        bookmark_seconds=options.bookmarks,
    )
    with api:
        for pair in ballast(options.services, options.endpoints):
            api.put(*pair)
        config = api.kubeconfig(f"{api.folder}/kubeconfig")
        print(json.dumps({"url": api.url, "port": api.port, "kubeconfig": config}), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            if options.rate:
                _change_slices(api, options.services, options.endpoints, options.rate)
            threading.Event().wait()


if __name__ == "__main__":
    main()
