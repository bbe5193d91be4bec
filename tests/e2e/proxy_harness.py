"""What the tests of weft-proxy alone stand on: the proxy without weftd between scripted endpoints and
raw clients, all in a network namespace of the test's process.

Each file runs alone, as with harness.py. WEFT_PROXY_WORKERS: how many threads it gets (1).
"""

import concurrent.futures
import contextlib
import ctypes
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.abspath(f"{os.path.dirname(__file__)}/../../scripts/lib"))

import weftlab  # noqa: E402
from weftlab import wait_until  # noqa: E402

LONG = os.environ.get("WEFT_LONG") == "1"
WORKERS = os.environ.get("WEFT_PROXY_WORKERS", "1")
SANITIZED = any(word in weftlab.proxy_build_dir() for word in ("asan", "tsan"))
CLONE_NEWNET = 0x40000000
GUARD = 60  # seconds: a hang, not a slow machine
# ... that a drain may take where all are idle: of them 3 are the proxy's patience, and 30 its deadline.
QUIET = 15
# A slow test is no server that speaks first: nobody is asked for a client that has yet to say something.
PATIENT = ["--detect-timeout", "3600"]
CRLF2 = b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

_ports = itertools.count(18000)


def enter_namespace():
    """The process and its threads get a network namespace with nothing but a loopback."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise weftlab.LabError(f"unshare: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Message:
    """A head as it came, taken apart, and its body."""

    def __init__(self, head):
        self.head = head
        self.line, *lines = head[: -len(CRLF2)].decode("latin1").split("\r\n")
        self.fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
        self.body = b""
        self.trailers = b""

    @property
    def status(self):
        return int(self.line.split(" ")[1])

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name):
        return next(iter(self.all(name)), None)

    @property
    def closes(self):
        return "close" in (self.get("connection") or "").lower()


class Peer:
    """One end of a connection, the client's or the endpoint's."""

    def __init__(self, sock, timeout=GUARD):
        self.sock = sock
        self.sock.settimeout(timeout)
        self.buffer = bytearray()
        self.pieces = []  # of what came: joined when asked for, megabytes would be copied at every read

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.sock.sendall(data)
        return self

    @property
    def received(self):
        """Every byte that came."""
        return b"".join(tuple(self.pieces))

    def fill(self):
        data = self.sock.recv(65536)
        self.buffer += data
        self.pieces.append(data)
        return bool(data)

    def take(self, count):
        while len(self.buffer) < count:
            if not self.fill():
                raise EOFError(f"ended within {count} bytes: {self.buffer!r:.200}")
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def until(self, mark):
        while mark not in self.buffer:
            if not self.fill():
                raise EOFError(f"ended before {mark!r}: {self.buffer!r:.200}")
        return self.take(self.buffer.index(mark) + len(mark))

    def rest(self):
        """Up to the other side's end."""
        while self.fill():
            pass
        return self.take(len(self.buffer))

    def head(self):
        return Message(self.until(CRLF2))

    def chunks(self, message):
        pieces = []
        while size := int(self.until(b"\r\n").split(b";")[0], 16):
            pieces.append(self.take(size))
            self.take(2)
        message.body = b"".join(pieces)
        while line := self.until(b"\r\n")[:-2]:
            message.trailers += line + b"\n"
        return message

    def request(self):
        """The next whole request; None where the connection ended instead."""
        while not self.buffer:
            if not self.fill():
                return None
        message = self.head()
        if "chunked" in message.all("transfer-encoding"):
            return self.chunks(message)
        message.body = self.take(int(message.get("content-length") or 0))
        return message

    def response(self, head_only=False):
        message = self.head()
        if head_only or message.status in (204, 304) or message.status < 200:
            return message
        if "chunked" in message.all("transfer-encoding"):
            return self.chunks(message)
        length = message.get("content-length")
        message.body = self.rest() if length is None else self.take(int(length))
        return message

    def ask(self, data, **kwargs):
        return self.send(data).response(**kwargs)

    def at_end(self):
        """Whether the other side closed, and sent nothing before that."""
        try:
            return not self.buffer and not self.fill()
        except ConnectionError:
            return True

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()


def answer(peer, response=OK):
    while peer.request():
        peer.send(response)


class Backend:
    """An endpoint. `script` is called with a Peer for each connection, in a thread; it may be changed
    at any time. `received` has what came, one bytes object a connection."""

    def __init__(self, script=answer, address="127.0.0.1"):
        self.script = script
        self.peers = []
        self.failures = []
        self.address = (address, next(_ports))
        self.listen()

    def listen(self):
        self.listener = socket.create_server(self.address, backlog=1024)
        self.accepting = threading.Thread(target=self._accept, args=(self.listener,), daemon=True)
        self.accepting.start()

    def stop_listening(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.accepting.join()  # else it might accept from whoever has the descriptor next
        self.listener.close()

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            peer = Peer(sock, timeout=2 * GUARD)  # its client loses patience first
            self.peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        try:
            self.script(peer)
        except (OSError, EOFError):
            pass
        except Exception as error:  # a fault of the script's; the test looks
            self.failures.append(error)
        with contextlib.suppress(OSError):
            peer.close()

    @property
    def received(self):
        return [peer.received for peer in self.peers]

    @property
    def name(self):
        return f"{self.address[0]}:{self.address[1]}"


class Proxy:
    def __init__(self, *to, flags=(), descriptors=None):
        self.address = ("127.0.0.1", next(_ports))
        command = [weftlab.proxy_binary(), "--listen", "%s:%d" % self.address]
        command += [*flags] if "--workers" in flags else ["--workers", WORKERS, *flags]
        for endpoint in to:
            command += ["--to", getattr(endpoint, "name", endpoint)]
        if descriptors:
            command = ["prlimit", f"--nofile={descriptors}:{descriptors}", *command]
        # Appended to: the offset is shared, and the proxy must not write where output() begins to read.
        self.log = open(f"/tmp/weft-proxy-{os.getpid()}-{self.address[1]}.log", "a+b")
        os.unlink(self.log.name)
        self.ending = threading.Lock()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        wait_until(self._listens, GUARD, "weft-proxy listens")
        self.own_sockets = self.sockets()

    def _listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f"weft-proxy ended: {self.output()}")
        return "ready" in self.output()

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def connect(self, timeout=GUARD, receive_buffer=None):
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(self.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Peer(sock, timeout)

    def get(self, path="/", timeout=GUARD):
        with self.connect(timeout) as client:
            return client.ask(request("GET", path))

    def memory(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def clients(self):
        """Connections of clients that the proxy has not closed."""
        with open("/proc/self/net/tcp", encoding="ascii") as file:
            rows = [line.split() for line in file][1:]
        port = f":{self.address[1]:04X}"
        return sum(r[1].endswith(port) and r[3] != "0A" and r[9] != "0" for r in rows)

    def sockets(self):
        folder = f"/proc/{self.process.pid}/fd"
        count = 0
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                count += os.readlink(f"{folder}/{name}").startswith("socket:")
        return count

    def endpoints(self):
        """Connections to endpoints, used or waiting."""
        return self.sockets() - self.own_sockets - self.clients()

    def stop(self):
        """Drains; returns how long that took. Whatever a sanitizer said fails the test."""
        with self.ending:
            return 0 if self.log.closed else self._stop()

    def _stop(self):
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30 + GUARD)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("weft-proxy does not end") from None
        text = self.output()
        self.log.close()
        if code or "Sanitizer" in text or "runtime error" in text:
            raise AssertionError(f"weft-proxy ended with {code}: {text[-6000:]}")
        return time.monotonic() - began

    def stop_meanwhile(self):
        """stop() in a thread: a future of what it returns or raises."""
        executor = concurrent.futures.ThreadPoolExecutor(1)
        future = executor.submit(self.stop)
        executor.shutdown(wait=False)
        return future


def request(method="GET", path="/", *fields, body=b"", version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", "Host: service", *fields]
    if body and not any("chunked" in field for field in fields):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines)).encode("latin1") + CRLF2 + body


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


class ProxyTest(unittest.TestCase):
    """A proxy in front of `self.backend` for every test."""

    FLAGS = []

    def setUp(self):
        self.backend = Backend()
        self.proxy = self.start_proxy(self.backend)

    def start_proxy(self, *to, flags=None, **kwargs):
        proxy = Proxy(*to, flags=self.FLAGS if flags is None else flags, **kwargs)
        self.addCleanup(proxy.stop)
        return proxy

    def client(self, **kwargs):
        peer = self.proxy.connect(**kwargs)
        self.addCleanup(peer.close)
        return peer

    def tearDown(self):
        self.assertEqual(self.backend.failures, [])

    def assert_quiet(self, proxy=None):
        """No connection is left: a drain ends at once."""
        self.assertLess((proxy or self.proxy).stop(), QUIET)


def main():
    try:
        weftlab.require_root(os.path.basename(sys.argv[0]))
        weftlab.proxy_binary()
        enter_namespace()
    except weftlab.LabError as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    result = unittest.main(module="__main__", verbosity=2, exit=False, warnings="ignore").result
    sys.exit(0 if result.wasSuccessful() and not result.skipped else 1)
