"""The cluster of the `kubernetes` benchmark: an API server in a process of its own, whose events the
benchmark asks for and whose clock it reads. Functions with a leading underscore run in that process."""

import http.client
import re
import ssl
import threading
import time
import uuid

from weftlab import kube_api
from weftlab.kube_store import RESOURCES
from weftlab.worker import Worker

NAMESPACE = "bench"
PROBED = f"{NAMESPACE}/probed"
PROBED_ADDRESS = "10.96.0.10"
PORT = 80
TARGET = 8080
ENDPOINTS = 10
CLIENT = 0  # its number among pods
_PAGE = 500  # what weftd asks for at a time
_NOWHERE = [f"100.64.0.{i + 1}" for i in range(ENDPOINTS - 2)]

_api = None
_storm = None
_real = ()


class Cluster:
    """`count` services of ten endpoints; those of PROBED are `real` and some that are nowhere."""

    def __init__(self, vnode, count, real):
        self._worker = Worker(f"{vnode.name}/api", vnode.netns)
        vnode.on_close(self._worker.close)
        self.run = self._worker.run
        self.kubeconfig = self.run(_start, f"{vnode.dir}/kube", vnode.name, count, real, guard_seconds=120)


def pod_uid(number):
    return str(uuid.UUID(int=number))


def pod_folder(root, number):
    """As kubelet's systemd driver names a pod's cgroup below the root of pods."""
    name = pod_uid(number).replace("-", "_")
    return f"{root}/kubepods-besteffort.slice/kubepods-besteffort-pod{name}.slice"


def _start(folder, node_name, count, real):
    global _api, _real
    _real = tuple(real)
    _api = kube_api.KubeApi(tls=True, folder=folder).start()
    _api.put(kube_api.node(node_name, zone="zone-1"))
    _api.put(kube_api.namespace(NAMESPACE, {"weft.mesh/enrol": "true"}))
    _api.put(_pod(node_name, CLIENT))
    for pair in kube_api.ballast(count - 1, ENDPOINTS):
        _api.put(*pair)
    _api.put(kube_api.service(PROBED, [PROBED_ADDRESS], [kube_api.service_port(PORT, TARGET)]))
    _api.put(_probed({real[0]}))
    return _api.kubeconfig(f"{folder}/kubeconfig")


def _probed(ready):
    endpoints = [kube_api.endpoint(a, ready=a in ready) for a in (*_real, *_NOWHERE)]
    return kube_api.endpoint_slice(PROBED, endpoints, [TARGET])


# --- what a client that does nothing else takes for the same lists ---


def list_everything(folder, port, node_name):
    """(seconds, bytes), every kind on a connection of its own, as weftd does it."""
    with open(f"{folder}/token", encoding="ascii") as file:
        headers = {"Authorization": f"Bearer {file.read()}"}
    context = ssl.create_default_context(cafile=f"{folder}/pki/ca.crt")
    sizes = []

    def follow(resource):
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        query = f"fieldSelector=spec.nodeName%3D{node_name}&" if resource.plural == "pods" else ""
        token = ""
        while token is not None:
            more = f"&continue={token}" if token else ""
            connection.request("GET", f"{resource.prefix}/{resource.plural}?{query}limit={_PAGE}{more}", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{resource.plural}: {answer.status}")
            sizes.append(len(body))
            found = re.search(rb'"continue":"([^"]+)"', body[:500])
            token = found[1].decode() if found else None
        connection.close()

    threads = [threading.Thread(target=follow, args=(resource,)) for resource in RESOURCES.values()]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - begin, sum(sizes)


def port():
    return _api.port


# --- events; each function answers with CLOCK_MONOTONIC of when their bytes were sent ---


def _sent(revision):
    return _api.wait(lambda: _api.sent_ns(revision), f"event {revision} is sent")


def turn(count, pause):
    """PROBED has the one, then the other real endpoint: [(sent_ns, which)]."""
    events = []
    for number in range(count):
        which = (number + 1) % len(_real)
        events.append((_api.put(_probed({_real[which]})), which))
        # Prime to the agent's own beats, and long enough that it rests in between.
        time.sleep(pause + number % 7 * 0.0011)
    return [(_sent(revision), which) for revision, which in events]


def resize(ready):
    """PROBED has so many endpoints."""
    return _sent(_api.put(_probed({_real[0], *_NOWHERE[: ready - 1]})))


def storm_begin(count, rate, every):
    """`rate` slices a second change, one after the other, from now on; of them each so many-th is
    PROBED's, which has 2 to 9 endpoints in turn."""
    global _storm
    _storm = _Storm(count - 1, rate, every)


def storm_end():
    """{"events", "seconds", "probed": [(sent_ns, endpoints)]}."""
    return _storm.end()


class _Storm:
    def __init__(self, count, rate, every):
        self._pairs = list(kube_api.ballast(count, ENDPOINTS))
        self._rate, self._every = rate, every
        self._made, self._probed, self._stop = 0, [], threading.Event()
        self._revision = _api.store.revision
        self._begin = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            while self._made < self._rate * (time.monotonic() - self._begin) and not self._stop.is_set():
                self._one(self._made)
                self._made += 1
            time.sleep(0.0005)

    def _one(self, number):
        if number % self._every == self._every - 1:
            ready = number // self._every % 8 + 2  # never what it was: that would be no event
            self._probed.append((_api.put(_probed({_real[0], *_NOWHERE[: ready - 1]})), ready))
            return
        slice_ = self._pairs[number % len(self._pairs)][1]
        one = slice_["endpoints"][number // len(self._pairs) % ENDPOINTS]
        ready = not one["conditions"]["ready"]
        one["conditions"].update(ready=ready, serving=ready)
        _api.put(slice_)

    def end(self):
        self._stop.set()
        self._thread.join()
        seconds = time.monotonic() - self._begin
        events = _api.store.revision - self._revision
        _api.wait_sent()
        probed = [(_sent(revision), ready) for revision, ready in self._probed]
        return {"events": events, "seconds": seconds, "probed": probed}


def put_pods(node_name, numbers):
    for number in numbers:
        revision = _api.put(_pod(node_name, number))
    return _sent(revision)


def _pod(node_name, number):
    address = f"100.65.{number >> 8}.{number & 255}"
    return kube_api.pod(f"{NAMESPACE}/pod-{number}", [address], node_name, uid=pod_uid(number))


def delete_pods(numbers):
    for number in numbers:
        _api.delete("Pod", NAMESPACE, f"pod-{number}")


def restart(away_seconds):
    """Every connection breaks and none is taken for a while; then the history is gone, so that
    everybody must list everything again. Seconds from being back until all watches are."""
    streams = _api.watchers()
    lists = _api.lists.copy()
    _api.away()
    time.sleep(away_seconds)  # the fault itself
    _api.store.touch()
    _api.compact()
    _api.back()
    begin = time.monotonic()
    _api.wait(lambda: all(_api.lists[kind] > lists[kind] for kind in RESOURCES), "all is listed again", 120)
    _api.wait_watchers(streams, guard_seconds=120)
    return time.monotonic() - begin
