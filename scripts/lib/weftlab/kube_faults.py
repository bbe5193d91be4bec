"""What KubeApi can be told to do wrong; every method may be called at any time, from any thread."""

import contextlib
import socket

from .kube_http import abort
from .kube_store import ApiError, event_line, expired, resource_of, to_bytes, too_large


class Faults:
    """A part of KubeApi, whose attributes it uses."""

    def drop_connections(self, reset=False):
        with self.store.lock:
            dropped = list(self._connections)
            self._connections.clear()
            for watch in list(self.store.watches):
                self.store.end(watch, aborted=True)
            self.store.changed.notify_all()
        for connection in dropped:
            if reset:
                abort(connection)
            with contextlib.suppress(OSError):
                # The thread that has it closes it.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def away(self):
        """Refuses to listen, and drops who is connected, until back()."""
        with self.store.lock:
            listener, self._listener = self._listener, None
        if listener:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop_connections()

    def back(self):
        self._listen()

    def cut(self, kind, after, verb="watch", how="close"):
        """Ends the stream of that kind (or "*") after so many more bytes of its body: of every
        stream that is open, else of the next. how: "close", "reset", or "clean", where HTTP's body
        ends properly but in the middle of an object (`after` counts then without chunk heads)."""
        plural = "*" if kind == "*" else resource_of(kind).plural
        with self.store.lock:
            found = [w for w in self.store.watches if plural in ("*", w.resource.plural)]
            if verb == "list" or not found:
                self._cuts.append([verb, plural, (after, how)])
                return
            for watch in found:
                watch.cut_after = (after, how)
                watch.wake.notify()

    def stall(self):
        """Nothing is sent on any connection, new ones included, until resume()."""
        self._flowing.clear()

    def resume(self):
        self._flowing.set()

    def drip(self, size=None, pause=0.001):
        """Everything goes out in pieces of `size` bytes with a pause between; drip() ends it."""
        self._drip = (size, pause) if size else None

    def fail(self, status, kind="*", verb="*", times=1, retry_after=None):
        """The next `times` such requests are answered with that status."""
        made = _failure(status, self.store.revision, retry_after)
        with self.store.lock:
            plural = "*" if kind == "*" else resource_of(kind).plural
            self._failures.append([verb, plural, times, made])

    def clear_failures(self):
        with self.store.lock:
            self._failures.clear()
            self._cuts.clear()

    def deny(self, kind, verb="*"):
        with self.store.lock:
            self._denied.add((resource_of(kind).plural, verb))

    def allow(self, kind, verb="*"):
        with self.store.lock:
            self._denied.discard((resource_of(kind).plural, verb))

    def compact(self, kind=None):
        self.store.compact(resource_of(kind).plural if kind else None)

    def expire_continue(self):
        self.store.expire_continue()

    def _open_watches(self, kind):
        plural = resource_of(kind).plural if kind else None
        return [w for w in self.store.watches if plural in (None, w.resource.plural)]

    def bookmark(self, kind=None):
        """To every stream that allowed bookmarks, now."""
        with self.store.lock:
            for watch in self._open_watches(kind):
                if watch.bookmarks:
                    self.store.bookmark_to(watch)

    def end_streams(self, kind=None):
        """As at timeoutSeconds: the bodies end properly, the connections stay."""
        with self.store.lock:
            for watch in self._open_watches(kind):
                self.store.end(watch)

    def send_raw(self, kind, line):
        """Bytes into the open streams of a kind, which the store knows nothing of."""
        with self.store.lock:
            for watch in self._open_watches(kind):
                watch.push(None, line)

    def send_event(self, kind, event, value):
        self.send_raw(kind, event_line(event.encode(), to_bytes(value)))

    def send_error(self, kind, code=410):
        """An ERROR event, after which the stream ends, as the API server does it."""
        made = expired("1", self.store.revision) if code == 410 else _failure(code, 0, None)
        self.send_event(kind, "ERROR", made.status)
        self.end_streams(kind)

    def oversize(self, kind, size):
        """An event, valid but for its size, that is not in the store."""
        plural = resource_of(kind)
        value = {
            "kind": plural.kind,
            "apiVersion": plural.api_version,
            "metadata": {
                "namespace": "default",
                "name": "oversize",
                "resourceVersion": str(self.store.revision),
                "annotations": {"x": "x" * size},
            },
        }
        self.send_event(kind, "ADDED", value)

    def endless(self, kind):
        """A line that never ends, in every open stream of that kind until its client leaves."""
        with self.store.lock:
            for watch in self._open_watches(kind):
                watch.endless = True
                watch.wake.notify()

    def duplicate_slice(self, namespace_name, name, suffix="-copy"):
        """The same endpoints once more in another slice, as while they move between slices."""
        value = self.objects("EndpointSlice")[(namespace_name, name)]
        for field in ("uid", "resourceVersion"):
            value["metadata"].pop(field)
        value["metadata"]["name"] = name + suffix
        return self.put(value)


def _failure(status, revision, retry_after):
    if status == 504:
        return too_large(revision + 1000, revision)
    reason, message = {
        401: ("Unauthorized", "Unauthorized"),
        403: ("Forbidden", "forbidden"),
        410: ("Expired", f"too old resource version: 1 ({revision})"),
        429: ("TooManyRequests", "Too many requests, please try again later."),
        500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
        503: ("ServiceUnavailable", "apiserver not ready"),
    }[status]
    if status == 429 and retry_after is None:
        retry_after = 1
    return ApiError(status, reason, message, retry_after=retry_after)
