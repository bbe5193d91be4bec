"""A process that lives in one cgroup and one network namespace and runs functions there.

Forked, not spawned: the functions a caller sends are then known in the worker too, also those of
`__main__`. The cgroup comes first and the namespace second, as in a container runtime.
"""

import contextlib
import errno
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback

from . import cleanup, kernel
from .waiting import Hang

_LENGTH = struct.Struct("!I")


class RemoteError(Exception):
    """What a function raised in a worker, with the traceback from there."""


def _send(sock, value, fds=()):
    body = pickle.dumps(value)
    head = _LENGTH.pack(len(body))
    if fds:
        socket.send_fds(sock, [head], fds)
        sock.sendall(body)
    else:
        sock.sendall(head + body)


def _read(sock, size):
    chunks = []
    while size:
        chunk = sock.recv(min(size, 1 << 20))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _receive(sock):
    head, fds, _, _ = socket.recv_fds(sock, _LENGTH.size, 1)
    if not head:
        raise EOFError
    if len(head) < _LENGTH.size:
        head += _read(sock, _LENGTH.size - len(head))
    return pickle.loads(_read(sock, _LENGTH.unpack(head)[0])), fds


def _outcome(function, args):
    try:
        return True, function(*args)
    except BaseException as error:  # also SystemExit: it must not end the worker
        return False, f"{error!r}\n{traceback.format_exc()}"


class Channel:
    """A background job's line to the caller: its first argument."""

    def __init__(self, sock):
        self._sock = sock

    def fileno(self):
        return self._sock.fileno()

    def stopping(self):
        """Whether the caller wants the job to end (or is gone)."""
        return bool(select.select([self._sock], [], [], 0)[0])

    def send(self, value):
        _send(self._sock, ("message", value))

    def wait_for_stop(self):
        select.select([self._sock], [], [])


class Job:
    """A function running in a process of its own; ended at the latest with its worker."""

    def __init__(self, pid, sock):
        self.pid = pid
        self._sock = sock
        self._result = None

    def receive(self, guard_seconds=60):
        """The next value the job sends."""
        kind, value = self._next(guard_seconds)
        if kind == "message":
            return value
        self._result = value
        raise RemoteError(f"the job ended instead of sending: {value}")

    def result(self, guard_seconds=120):
        """What the function returned; messages on the way are dropped."""
        while self._result is None:
            kind, value = self._next(guard_seconds)
            if kind == "result":
                self._result = value
                self._sock.close()  # a soak starts thousands of jobs
        ok, value = self._result
        if not ok:
            raise RemoteError(value)
        return value

    def stop(self, guard_seconds=120):
        if self._result is None:
            with contextlib.suppress(OSError):
                self._sock.send(b"s")
        return self.result(guard_seconds)

    def kill(self):
        if self._result is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._sock.close()

    def finished(self):
        """Whether there is something to receive: a message, or the end."""
        return self._result is not None or bool(select.select([self._sock], [], [], 0)[0])

    def _next(self, guard_seconds):
        self._sock.settimeout(guard_seconds)
        try:
            message, _ = _receive(self._sock)
            return message
        except (EOFError, ConnectionError):  # the latter: with something of ours unread
            return "result", (False, "the job was killed")
        except TimeoutError:
            raise Hang(f"no answer from job {self.pid} for {guard_seconds} s") from None


class Worker:
    def __init__(self, name, netns=None, cgroup=None):
        self.name = name
        self._sock, theirs = socket.socketpair()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _child(parent, theirs, netns, cgroup)
            finally:
                os._exit(1)
        theirs.close()
        self._answer(60)

    def run(self, function, *args, guard_seconds=120):
        """function(*args) in there; its value, or RemoteError."""
        _send(self._sock, ("run", function, args))
        return self._answer(guard_seconds)

    def start(self, function, *args):
        """function(channel, *args) in a child process in there."""
        ours, theirs = socket.socketpair()
        _send(self._sock, ("start", function, args), [theirs.fileno()])
        theirs.close()
        return Job(self._answer(60), ours)

    def _answer(self, guard_seconds):
        self._sock.settimeout(guard_seconds)
        try:
            (ok, value), _ = _receive(self._sock)
        except (EOFError, ConnectionError):
            raise RemoteError(f"worker {self.name} is gone") from None
        except TimeoutError:
            raise Hang(f"worker {self.name} has not answered for {guard_seconds} s") from None
        if not ok:
            raise RemoteError(f"in {self.name}: {value}")
        return value

    def close(self):
        if self.pid is None:
            return
        self._sock.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.pid = None


def _child(parent, sock, netns, cgroup):
    cleanup.leave_to_parent()
    kernel.die_with_parent(parent)
    keep = sock.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 1 << 16)
    outcome = _outcome(_enter, (netns, cgroup))
    _send(sock, outcome)
    if not outcome[0]:
        os._exit(1)
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(sock)
    os._exit(0)


def _enter(netns, cgroup):
    if cgroup:
        kernel.enter_cgroup(cgroup)
    if netns:
        kernel.enter_netns(f"{kernel.NETNS_DIR}/{netns}")


def _serve(sock):
    while True:
        (kind, function, args), fds = _receive(sock)
        _reap()
        if kind == "run":
            _send(sock, _outcome(function, args))
        else:
            _send(sock, (True, _start(sock, fds[0], function, args)))
            os.close(fds[0])


def _start(sock, fd, function, args):
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        kernel.die_with_parent(parent)
        sock.close()
        line = socket.socket(fileno=fd)
        _send(line, ("result", _outcome(function, (Channel(line),) + args)))
    finally:
        os._exit(0)


def _reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except OSError as error:
        if error.errno != errno.ECHILD:
            raise
