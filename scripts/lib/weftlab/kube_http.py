"""One connection to KubeApi: requests in, lists, objects and watch streams out, faults between."""

import contextlib
import gzip
import http.server
import re
import select
import socket
import time
import urllib.parse

from .kube_store import RESOURCES, ApiError, event_line, to_bytes

_PATH = re.compile(
    r"^(?P<prefix>/api/v1|/apis/[^/]+/v1)(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/]))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?$"
)
_GZIP_FROM = 128 * 1024  # as the API server
_FIELDS = {
    "services": ("metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"),
    "pods": (
        "metadata.name",
        "metadata.namespace",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    ),
    "nodes": ("metadata.name", "spec.unschedulable"),
    "namespaces": ("metadata.name", "status.phase"),
    "endpointslices": ("metadata.name", "metadata.namespace"),
    "destinationrules": ("metadata.name", "metadata.namespace"),
    "virtualservices": ("metadata.name", "metadata.namespace"),
    "serviceentries": ("metadata.name", "metadata.namespace"),
    "httproutes": ("metadata.name", "metadata.namespace"),
}


class Cut(Exception):
    """A fault script ends this connection here."""


def _selector(text, split):
    """[(key, wanted value or None for any, negated)] of `a=b,c!=d,e,!f`."""
    terms = []
    for term in filter(None, text.split(",")):
        found = re.match(r"^(!?)([^=!\s(]+)(?:(==|=|!=)([^=!\s(]*))?$", term)
        if not found or (found[1] and found[3]) or not (found[3] or split == "label"):
            raise ApiError(400, "BadRequest", f"unable to parse requirement: {term}")
        terms.append((found[2], found[4] if found[3] else None, bool(found[1]) or found[3] == "!="))
    return terms


def _field(value, path):
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def matcher(resource, namespace, fields, labels):
    """A predicate on objects, or None where every object is selected."""
    field_terms = _selector(fields, "field")
    label_terms = _selector(labels, "label")
    for key, _, _ in field_terms:
        if key not in _FIELDS[resource.plural]:
            raise ApiError(400, "BadRequest", f"field label not supported: {key}")
    if not (namespace or field_terms or label_terms):
        return None

    def matches(value):
        metadata = value["metadata"]
        if namespace and metadata.get("namespace") != namespace:
            return False
        for key, wanted, negated in field_terms:
            if (_field(value, key) == wanted) == negated:
                return False
        has = metadata.get("labels") or {}
        for key, wanted, negated in label_terms:
            if (key in has and wanted in (None, has[key])) == negated:
                return False
        return True

    return matches


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(OSError, Cut, ValueError):
            super().handle()

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        self._budget = None
        try:
            self._answer(url.path, query)
        except ApiError as error:
            self._send_status(error)

    def _answer(self, path, query):
        found = _PATH.match(path)
        resource = RESOURCES.get(found["plural"]) if found else None
        if resource and resource.prefix != found["prefix"]:
            resource = None
        if resource and resource.group in self.server.missing_groups:
            resource = None
        if resource and found["namespace"] and not resource.namespaced:
            resource = None
        verb = None
        if resource:
            verb = "get" if found["name"] else "list"
            if query.get("watch", "").lower() in ("1", "true", "t"):
                verb = "watch"
        self.server.admit(self, verb, resource, found["namespace"] if found else None, path)
        if not resource:
            self._plain_path(path)
        elif verb == "watch":
            self._watch(resource, found, query)
        elif verb == "list":
            self._list(resource, found["namespace"], query)
        else:
            self._get(resource, found["namespace"], found["name"])

    def _plain_path(self, path):
        if path in ("/readyz", "/livez", "/healthz"):
            return self._send(200, b"ok", "text/plain; charset=utf-8")
        if path == "/version":
            version = {"major": "1", "minor": "34", "gitVersion": "v1.34.0", "platform": "linux"}
            return self._send(200, to_bytes(version))
        raise ApiError(404, "NotFound", "the server could not find the requested resource")

    def _get(self, resource, namespace, name):
        entry = self.server.store.get(resource, namespace, name)
        if not entry:
            raise ApiError(
                404,
                "NotFound",
                f'{resource.full_name} "{name}" not found',
                details={"name": name, **resource.details},
            )
        self._send(200, entry.full)

    def _metadata_only(self, form):
        """Whether the form PartialObjectMetadata, or ...List, is asked for. A form that does not
        fit the request is refused, as the API server does it."""
        asked = dict(
            part.strip().partition("=")[::2]
            for part in self.headers.get("Accept", "").split(",")[0].split(";")[1:]
        )
        if not asked.get("as"):
            return False
        if asked != {"as": form, "g": "meta.k8s.io", "v": "v1"}:
            raise ApiError(
                406,
                "NotAcceptable",
                "only the following media types are accepted: application/json",
            )
        return True

    def _list(self, resource, namespace, query):
        metadata_only = self._metadata_only("PartialObjectMetadataList")
        matches = matcher(
            resource, namespace, query.get("fieldSelector", ""), query.get("labelSelector", "")
        )
        page = self.server.store.list(
            resource,
            matches,
            limit=int(query.get("limit") or 0),
            token=query.get("continue", ""),
            version=query.get("resourceVersion", ""),
            match=query.get("resourceVersionMatch", ""),
        )
        metadata = {"resourceVersion": str(page.revision)}
        if page.token:
            metadata["continue"] = page.token
        if page.remaining:
            metadata["remainingItemCount"] = page.remaining
        kind, version = resource.kind, resource.api_version
        if metadata_only:
            kind, version = "PartialObjectMetadata", "meta.k8s.io/v1"
        body = b'{"kind":"%sList","apiVersion":"%s","metadata":%s,"items":[%s]}\n' % (
            kind.encode(),
            version.encode(),
            to_bytes(metadata),
            b",".join([e.metadata if metadata_only else e.bare for e in page.entries]),
        )
        self._budget = self.server.take_cut("list", resource)
        self._send(200, body)

    def _send_status(self, error):
        extra = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else {}
        self._send(error.code, to_bytes(error.status) + b"\n", extra=extra)

    def _send(self, code, body, content_type="application/json", extra=None):
        zipped = len(body) >= _GZIP_FROM and "gzip" in self.headers.get("Accept-Encoding", "")
        if zipped:
            body = gzip.compress(body, 1)
        self._head(code, content_type)
        if zipped:
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Vary", "Accept-Encoding")
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        head = b"".join(self._headers_buffer) + b"\r\n"
        self._headers_buffer = []
        self._write(head, counted=False)
        self._write(body)

    def _head(self, code, content_type):
        self.send_response(code)
        self.send_header("Audit-Id", "00000000-0000-0000-0000-000000000000")
        self.send_header("Cache-Control", "no-cache, private")
        self.send_header("Content-Type", content_type)

    def _write(self, data, counted=True):
        """To the peer, through whatever fault is switched on. `counted` bytes use up a cut."""
        server = self.server
        if counted and self._budget is not None:
            after, how = self._budget
            if len(data) >= after:
                self._budget = None
                server.paced_write(self.connection, data[:after])
                if how == "reset":
                    abort(self.connection)
                raise Cut
            self._budget = (after - len(data), how)
        server.paced_write(self.connection, data)

    # --- watch streams ---

    def _watch(self, resource, found, query):
        server = self.server
        fields = query.get("fieldSelector", "")
        if found["name"]:
            fields = ",".join(filter(None, [fields, f"metadata.name={found['name']}"]))
        matches = matcher(resource, found["namespace"], fields, query.get("labelSelector", ""))
        initial = query.get("sendInitialEvents", "").lower() in ("1", "true")
        if initial and not server.watch_list:
            raise ApiError(
                422,
                "Invalid",
                "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: "
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is "
                "enabled",
            )
        bookmarks = query.get("allowWatchBookmarks", "").lower() in ("1", "true")
        metadata_only = self._metadata_only("PartialObjectMetadata")
        error = None
        try:
            watch = server.store.watch(
                resource,
                matches,
                query.get("resourceVersion", ""),
                bookmarks,
                initial,
                metadata_only,
            )
        except ApiError as refused:
            if refused.code != 410 or server.gone == "status":
                raise
            error = event_line(b"ERROR", to_bytes(refused.status))
        self._head(200, "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        head = b"".join(self._headers_buffer) + b"\r\n"
        self._headers_buffer = []
        if error:
            self._write(head, counted=False)
            self._write(_chunk(error) + b"0\r\n\r\n")
            return
        try:
            with server.store.lock:
                if not server.has(self.connection):
                    raise Cut
                watch.cut_after = watch.cut_after or server.take_cut("watch", resource)
            self._write(head, counted=False)
            self._stream(watch, float(query.get("timeoutSeconds") or 1800))
        finally:
            server.store.unwatch(watch)

    def _stream(self, watch, seconds):
        server = self.server
        deadline = time.monotonic() + seconds
        next_bookmark = time.monotonic() + server.bookmark_seconds
        while True:
            with watch.wake:
                watch.busy = False
                if not watch.items:
                    server.store.changed.notify_all()
                    pause = min(0.25, deadline - time.monotonic())
                    if not watch.ended and not watch.endless and pause > 0:
                        watch.wake.wait(pause)
                now = time.monotonic()
                if watch.bookmarks and (now >= next_bookmark or now >= deadline):
                    next_bookmark = now + server.bookmark_seconds
                    server.store.bookmark_to(watch)
                items = list(watch.items)
                watch.items.clear()
                ended = watch.ended or now >= deadline
                watch.busy = bool(items)
                if watch.aborted:
                    raise Cut
                if watch.cut_after:
                    self._budget, watch.cut_after = watch.cut_after, None
            if items:
                self._send_events(items)
            if ended:
                return self._write(b"0\r\n\r\n")
            if watch.endless:
                self._send_endless(watch)
            if not items and self._peer_is_gone():
                raise Cut

    def _send_events(self, items):
        """One chunk an event, as the API server flushes them; or pieces of chunk_bytes each."""
        size = self.server.chunk_bytes
        lines = [line for _, line in items]
        if size:
            joined = b"".join(lines)
            lines = [joined[i : i + size] for i in range(0, len(joined), size)]
        # "clean": the body ends in the middle of an object, but properly for HTTP.
        if self._budget and self._budget[1] == "clean":
            joined = b"".join(lines)
            after = self._budget[0]
            if len(joined) >= after:
                self._budget = None
                self._write((_chunk(joined[:after]) if after else b"") + b"0\r\n\r\n")
                self.close_connection = True
                raise Cut
            self._budget = (after - len(joined), "clean")
            saved, self._budget = self._budget, None
            self._write(b"".join(map(_chunk, lines)))
            self._budget = saved
        else:
            self.server.note_sent(items)
            self._write(b"".join(map(_chunk, lines)))

    def _send_endless(self, watch):
        """An event whose object has a string that never ends."""
        self._write(_chunk(b'{"type":"MODIFIED","object":{"kind":"x","data":"'))
        block = _chunk(b"x" * 65536)
        while watch.endless and not watch.ended:
            self._write(block)
            with self.server.store.lock:
                self.server.endless_bytes += 65536
                self.server.store.changed.notify_all()
            # So that a reader that skips it for ever does not take a whole core here.
            time.sleep(0.001)
        raise Cut

    def _peer_is_gone(self):
        """A peer sends nothing during a watch: what is readable is the end (also TLS's)."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        return bool(poll.poll(0))


def _chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def abort(connection):
    """RST instead of FIN at the close that follows."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
