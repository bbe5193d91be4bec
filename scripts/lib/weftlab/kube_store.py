"""The state behind KubeApi: objects with their bytes, one revision counter, a history that ends.

As etcd and the API server's watch cache have it: every write takes the next revision of one counter
for all kinds; a watch from revision R sends what came after R, or "410 Expired" where the history
no longer reaches back so far; a paged list stays at the revision of its first page.
"""

import base64
import binascii
import collections
import copy
import itertools
import json
import threading
import time
import uuid
from dataclasses import dataclass

FIRST_REVISION = 1000
# Custom resources: not every cluster has them.
ISTIO = "networking.istio.io"
GATEWAY = "gateway.networking.k8s.io"


@dataclass(frozen=True)
class Resource:
    plural: str
    kind: str
    group: str  # "" is the core group
    namespaced: bool

    @property
    def api_version(self):
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def prefix(self):
        return f"/apis/{self.group}/v1" if self.group else "/api/v1"

    @property
    def details(self):
        """Of a Status about it."""
        return {**({"group": self.group} if self.group else {}), "kind": self.plural}

    @property
    def full_name(self):
        """As messages have it: endpointslices.discovery.k8s.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


RESOURCES = {
    r.plural: r
    for r in (
        Resource("services", "Service", "", True),
        Resource("pods", "Pod", "", True),
        Resource("nodes", "Node", "", False),
        Resource("namespaces", "Namespace", "", False),
        Resource("endpointslices", "EndpointSlice", "discovery.k8s.io", True),
        Resource("destinationrules", "DestinationRule", ISTIO, True),
        Resource("virtualservices", "VirtualService", ISTIO, True),
        Resource("serviceentries", "ServiceEntry", ISTIO, True),
        Resource("httproutes", "HTTPRoute", GATEWAY, True),
    )
}
_BY_KIND = {r.kind: r for r in RESOURCES.values()}


def resource_of(name):
    """Of a kind or a plural."""
    return _BY_KIND.get(name) or RESOURCES[name]


class ApiError(Exception):
    """An answer of kind Status."""

    def __init__(self, code, reason, message, details=None, retry_after=None, metadata=None):
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata or {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({"details": details} if details else {}),
            "code": code,
        }


def expired(asked, oldest):
    return ApiError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def too_large(asked, now):
    return ApiError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {asked}, current: {now}",
        details={
            "causes": [
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            ],
            "retryAfterSeconds": 1,
        },
        retry_after=1,
    )


def to_bytes(value):
    return json.dumps(value, separators=(",", ":")).encode()


def drop_none(value):
    """A deep copy without what is None."""
    if isinstance(value, dict):
        return {key: drop_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [drop_none(item) for item in value]
    return value


class Entry:
    """One version of one object. `bare` is as typed lists carry it: without kind and apiVersion."""

    __slots__ = ("resource", "key", "revision", "object", "bare")

    def __init__(self, resource, key, revision, value):
        self.resource = resource
        self.key = key
        self.revision = revision
        self.object = value
        self.bare = to_bytes({k: v for k, v in value.items() if k not in ("kind", "apiVersion")})

    @property
    def metadata(self):
        """The object in the form PartialObjectMetadata."""
        return b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":%s}' % (
            to_bytes(self.object["metadata"])
        )

    @property
    def full(self):
        r = self.resource
        return b'{"kind":"%s","apiVersion":"%s",%s' % (
            r.kind.encode(),
            r.api_version.encode(),
            self.bare[1:],
        )

    def at(self, revision):
        """The same object as a deletion shows it: with the deletion's revision."""
        value = {**self.object, "metadata": dict(self.object["metadata"])}
        value["metadata"]["resourceVersion"] = str(revision)
        return Entry(self.resource, self.key, revision, value)


class Change:
    """One step of the history: `old` or `new` is None at a creation or a deletion."""

    __slots__ = ("revision", "old", "new", "_lines")

    def __init__(self, revision, old, new):
        self.revision = revision
        self.old = old
        self.new = new
        self._lines = {}

    @property
    def key(self):
        return (self.new or self.old).key

    def line(self, matches, metadata_only=False):
        """The watch event for one that selects by `matches`, or None: leaving the selection is a
        deletion, with the last state that was in it."""
        was = self.old is not None and matches(self.old.object)
        now = self.new is not None and matches(self.new.object)
        if not was and not now:
            return None
        kind = b"DELETED" if not now else b"MODIFIED" if was else b"ADDED"
        made = kind, metadata_only
        if made not in self._lines:
            entry = self.new if now else self.old.at(self.revision)
            self._lines[made] = event_line(kind, entry.metadata if metadata_only else entry.full)
        return self._lines[made]


def event_line(kind, body):
    return b'{"type":"%s","object":%s}\n' % (kind, body)


class Watch:
    """What one stream has still to send. The store fills it, the connection's thread empties it."""

    def __init__(self, lock, resource, matches, bookmarks, metadata_only=False):
        self.resource = resource
        self.metadata_only = metadata_only
        self.matches = matches
        self.bookmarks = bookmarks
        self.after = 0  # older changes are not for it: it may have asked from a version to come
        self.items = collections.deque()  # (revision or None, bytes)
        self.wake = threading.Condition(lock)
        self.ended = False  # no more items: the stream ends as at its timeout
        self.aborted = False  # its connection was dropped
        self.busy = False  # the connection's thread is sending
        self.cut_after = None  # (wire bytes, how) or None
        self.endless = False

    def push(self, revision, line):
        self.items.append((revision, line))
        self.wake.notify()


@dataclass
class Page:
    entries: list
    revision: int
    token: str
    remaining: int


class Store:
    def __init__(self, history=100_000):
        # Reentrant: hooks of KubeApi hold it over several steps.
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)  # anything tests may wait for
        self.revision = FIRST_REVISION
        self.watches = set()
        self._history_size = history
        self._tables = {name: {} for name in RESOURCES}
        self._history = {name: collections.deque() for name in RESOURCES}
        self._compacted = dict.fromkeys(RESOURCES, 0)
        self._continue_floor = 0
        self._sorted = {}  # resource -> entries by key; absent: to be sorted again
        self._snapshots = collections.OrderedDict()
        self._frozen = None  # resource -> (revision, entries) of a cache that lags
        self._uids = itertools.count(1)

    def put(self, value):
        """Creates or updates; the object's revision. Writing what is there already changes
        nothing and sends nothing, as in the API."""
        resource = _BY_KIND[value["kind"]]
        value = drop_none(value)  # a copy
        metadata = value["metadata"]
        key = (metadata.get("namespace", "") if resource.namespaced else "", metadata["name"])
        with self.lock:
            old = self._tables[resource.plural].get(key)
            has = old.object["metadata"] if old else {}
            metadata.setdefault("uid", has.get("uid") or self._uid(resource, key))
            metadata.setdefault(
                "creationTimestamp",
                has.get("creationTimestamp") or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            if old:
                metadata["resourceVersion"] = has["resourceVersion"]
                if value == old.object:
                    return old.revision
            self.revision += 1
            metadata["resourceVersion"] = str(self.revision)
            new = Entry(resource, key, self.revision, value)
            self._tables[resource.plural][key] = new
            self._record(resource.plural, Change(self.revision, old, new))
            return self.revision

    def _uid(self, resource, key):
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{resource.plural}/{key}/{next(self._uids)}"))

    def delete(self, kind, namespace, name):
        resource = resource_of(kind)
        with self.lock:
            old = self._tables[resource.plural].pop((namespace or "", name))
            self.revision += 1
            self._record(resource.plural, Change(self.revision, old, None))
            return self.revision

    def _record(self, plural, change):
        self._sorted.pop(plural, None)
        history = self._history[plural]
        history.append(change)
        if len(history) > self._history_size:
            self._compacted[plural] = history.popleft().revision
        for watch in self.watches:
            if watch.resource.plural == plural and change.revision > watch.after:
                line = change.line(watch.matches, watch.metadata_only)
                if line:
                    watch.push(change.revision, line)

    def compact(self, plural=None):
        """Forgets the history: what lags behind is answered with 410 from now on."""
        with self.lock:
            for name in [plural] if plural else RESOURCES:
                self._history[name].clear()
                self._compacted[name] = self.revision
            self._snapshots.clear()

    def touch(self):
        """The revision moves although nothing of ours changed, as other people's writes do it."""
        with self.lock:
            self.revision += 1
            return self.revision

    def expire_continue(self):
        with self.lock:
            self._continue_floor = self.touch()

    def freeze(self, frozen):
        """Lists at resourceVersion=0 come from a cache that is as old as this call, or not."""
        with self.lock:
            self._frozen = (
                {name: (self.revision, self._now(name)) for name in RESOURCES} if frozen else None
            )

    def objects(self, kind):
        """{(namespace, name): object}: the truth, to compare with."""
        with self.lock:
            table = self._tables[resource_of(kind).plural]
            return {key: copy.deepcopy(entry.object) for key, entry in table.items()}

    def get(self, resource, namespace, name):
        with self.lock:
            return self._tables[resource.plural].get((namespace or "", name))

    def _now(self, plural):
        if plural not in self._sorted:
            self._sorted[plural] = sorted(self._tables[plural].values(), key=lambda e: e.key)
        return self._sorted[plural]

    def _at(self, plural, revision):
        """Entries as they were at a revision: the history, undone."""
        history = self._history[plural]
        if not history or history[-1].revision <= revision:
            return self._now(plural)
        if (plural, revision) not in self._snapshots:
            table = dict(self._tables[plural])
            for change in reversed(history):
                if change.revision <= revision:
                    break
                if change.old:
                    table[change.key] = change.old
                else:
                    del table[change.key]
            entries = sorted(table.values(), key=lambda e: e.key)
            self._snapshots[(plural, revision)] = entries
            while len(self._snapshots) > 8:
                self._snapshots.popitem(last=False)
        return self._snapshots[(plural, revision)]

    def list(self, resource, matches, *, limit=0, token="", version="", match=""):
        """`matches` of None selects all."""
        with self.lock:
            start = None
            if token:
                revision, entries, start = self._continued(resource.plural, token)
            else:
                revision, entries = self._listed(resource.plural, version, match, limit)
                if version == "0":
                    limit = 0  # served from the watch cache, which does not page
        # Entries never change: the rest needs no lock.
        if start is not None:
            entries = [e for e in entries if e.key >= start]
        chosen = entries if matches is None else [e for e in entries if matches(e.object)]
        more = len(chosen) - limit if limit else 0
        if more <= 0:
            return Page(chosen, revision, "", 0)
        return Page(
            chosen[:limit],
            revision,
            _token(revision, chosen[limit].key),
            more if matches is None else 0,
        )

    def _listed(self, plural, version, match, limit):
        if version == "0" and self._frozen:
            return self._frozen[plural]
        if version in ("", "0"):
            return self.revision, self._now(plural)
        asked = parse_version(version)
        if asked > self.revision:
            raise too_large(asked, self.revision)
        # Without a match a version with a limit means exactly that version, for older clients.
        if match == "Exact" or (not match and limit):
            if asked < self._compacted[plural]:
                raise expired(asked, self._compacted[plural])
            return asked, self._at(plural, asked)
        return self.revision, self._now(plural)

    def _continued(self, plural, token):
        try:
            found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            revision, start = found["rv"], tuple(found["start"].rstrip("\0").split("/", 1))
        except (ValueError, KeyError, TypeError, binascii.Error):
            raise ApiError(400, "BadRequest", "invalid continue token: continue key is not valid") from None
        if revision == -1:
            return self.revision, self._now(plural), start
        if revision < max(self._compacted[plural], self._continue_floor):
            raise ApiError(
                410,
                "Expired",
                "The provided continue parameter is too old to display a consistent list result. "
                "You can start a new list without the continue parameter, or use the continue "
                "token in this response to retrieve the remainder of the results. Continuing with "
                "the provided token results in an inconsistent list - objects that were created, "
                "modified, or deleted between the time the first chunk was returned and now may "
                "show up in the list.",
                metadata={"continue": _token(-1, start)},
            )
        return revision, self._at(plural, revision), start

    def watch(self, resource, matches, version, bookmarks, initial=False, metadata_only=False):
        """A registered Watch; `initial` is sendInitialEvents."""
        with self.lock:
            watch = Watch(
                self.lock, resource, matches or (lambda _: True), bookmarks, metadata_only
            )
            if initial or version in ("", "0"):
                for entry in self._now(resource.plural):
                    if watch.matches(entry.object):
                        shown = entry.metadata if metadata_only else entry.full
                        watch.push(None, event_line(b"ADDED", shown))
                if initial:
                    self.bookmark_to(watch, initial_end=True)
            else:
                self._replay(watch, parse_version(version))
            self.watches.add(watch)
            self.changed.notify_all()
            return watch

    def _replay(self, watch, after):
        watch.after = after
        plural = watch.resource.plural
        if after < self._compacted[plural]:
            raise expired(after, self._compacted[plural])
        missed = itertools.takewhile(lambda c: c.revision > after, reversed(self._history[plural]))
        for change in reversed(list(missed)):
            line = change.line(watch.matches, watch.metadata_only)
            if line:
                watch.push(change.revision, line)

    def bookmark_to(self, watch, initial_end=False):
        metadata = {"resourceVersion": str(self.revision), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        r = watch.resource
        body = {"kind": r.kind, "apiVersion": r.api_version, "metadata": metadata}
        # The zero value of the type, as the server marshals it: required fields are there, empty.
        if watch.metadata_only:
            body.update(kind="PartialObjectMetadata", apiVersion="meta.k8s.io/v1")
        elif r.plural == "endpointslices":
            body.update(addressType="", endpoints=None, ports=None)
        else:
            body.update(spec={"containers": None} if r.plural == "pods" else {}, status={})
        watch.push(None, event_line(b"BOOKMARK", to_bytes(body)))

    def end(self, watch, aborted=False):
        """Nobody counts it from now on, although its thread has still to notice."""
        with self.lock:
            watch.ended = True
            watch.aborted = aborted
            self.watches.discard(watch)
            watch.wake.notify()
            self.changed.notify_all()

    def unwatch(self, watch):
        with self.lock:
            self.watches.discard(watch)
            self.changed.notify_all()


def _token(revision, key):
    text = {"v": "meta.k8s.io/v1", "rv": revision, "start": "/".join(key) + "\0"}
    return base64.urlsafe_b64encode(to_bytes(text)).decode().rstrip("=")


def parse_version(text):
    if not text.isdigit():
        raise ApiError(
            400, "BadRequest", f'resourceVersion: Invalid value: "{text}": invalid version'
        )
    return int(text)
