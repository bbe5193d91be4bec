"""What a client does, as functions to run in a pod. Errors come back as names ("ECONNREFUSED")."""

import errno
import selectors
import socket
import struct
import time
from collections import Counter

_GUARD_SECONDS = 40  # a hang, not a slow machine
_LINGER_RESET = struct.pack("ii", 1, 0)


def error_name(error):
    if isinstance(error, TimeoutError) and error.errno is None:
        return "HANG"
    return errno.errorcode.get(error.errno, str(error))


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def plain(address):
    """(host, port) of a socket address, v4-mapped ones as the kernel writes them."""
    return address[0], address[1]


def _socket(address, kind, v6only=None):
    sock = socket.socket(family_of(address), kind)
    sock.settimeout(_GUARD_SECONDS)
    if v6only is not None:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
    return sock


def _request(sock, host):
    sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        if end and body.endswith(b"\n"):
            return body.decode().strip()
        chunk = sock.recv(65536)
        if not chunk:
            raise ConnectionResetError(errno.ECONNRESET, "closed before the answer")
        data += chunk


def ask(address, port, v6only=None, requests=1):
    """One connection: {"name": who answered, "peer": getpeername(), "error": name or None}."""
    sock = _socket(address, socket.SOCK_STREAM, v6only)
    try:
        sock.connect((address, port))
        peer = plain(sock.getpeername())  # who is reset has none
        names = [_request(sock, address) for _ in range(requests)]
        return {"name": names[0], "names": names, "peer": peer, "error": None}
    except OSError as error:
        return {"name": None, "peer": None, "error": error_name(error)}
    finally:
        sock.close()


def ask_many(address, port, count):
    """Who answered each of `count` connections; errors by name."""
    answers = (ask(address, port) for _ in range(count))
    return [answer["name"] or answer["error"] for answer in answers]


def connect_error(address, port, blocking=True, v6only=None):
    """The error of connect() itself, None where it connected.

    Without blocking, "EINPROGRESS" is an answer: the kernel had not refused at once.
    """
    sock = _socket(address, socket.SOCK_STREAM, v6only)
    if not blocking:
        sock.setblocking(False)
    try:
        sock.connect((address, port))
        return None
    except OSError as error:
        return error_name(error)
    finally:
        sock.close()


def reconnect(first, second):
    """One socket that connects twice: what each connect said, and the peer after the second."""
    sock = _socket(first[0], socket.SOCK_STREAM)
    outcomes = []
    try:
        for target in (first, second):
            try:
                sock.connect(tuple(target))
                outcomes.append(None)
            except OSError as error:
                outcomes.append(error_name(error))
        try:
            return outcomes, plain(sock.getpeername())
        except OSError as error:
            return outcomes, error_name(error)
    finally:
        sock.close()


def udp_ask(targets, text="hello"):
    """One unconnected socket asks every target in turn: [(answer, its sender) or error]."""
    sock = _socket(targets[0][0], socket.SOCK_DGRAM)
    answers = []
    try:
        for target in targets:
            try:
                sock.sendto(text.encode(), tuple(target))
                data, sender = sock.recvfrom(65536)
                answers.append((data.decode(), plain(sender)))
            except OSError as error:
                answers.append(error_name(error))
        return answers
    finally:
        sock.close()


def udp_burst(targets, text="hello"):
    """Sends to every target first, then collects as many answers: {sender: answer}."""
    sock = _socket(targets[0][0], socket.SOCK_DGRAM)
    try:
        for target in targets:
            sock.sendto(text.encode(), tuple(target))
        return {
            plain(sender): data.decode() for data, sender in (sock.recvfrom(65536) for _ in targets)
        }
    finally:
        sock.close()


def udp_ask_connected(address, port, count=1, text="hello"):
    """A connected socket: {"answers", "peer", "error"}."""
    sock = _socket(address, socket.SOCK_DGRAM)
    answers = []
    try:
        sock.connect((address, port))
        for _ in range(count):
            sock.send(text.encode())
            data, sender = sock.recvfrom(65536)
            answers.append((data.decode(), plain(sender)))
        return {"answers": answers, "peer": plain(sock.getpeername()), "error": None}
    except OSError as error:
        return {"answers": answers, "peer": None, "error": error_name(error)}
    finally:
        sock.close()


def traffic(channel, address, port, pause=0.0):
    """A job: one new connection a request, until told to stop.

    Tells the caller when the first request is answered. Returns {"requests", "failures": [...],
    "by_name"}.
    """
    by_name, failures, requests = Counter(), [], 0
    while not channel.stopping():
        sock = _socket(address, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)  # leaves no TIME_WAIT
        requests += 1
        try:
            sock.connect((address, port))
            by_name[_request(sock, address)] += 1
        except OSError as error:
            failures.append(f"request {requests}: {error_name(error)}")
        finally:
            sock.close()
        if requests == 1:
            channel.send("first request done")
        if pause:
            time.sleep(pause)
    return {"requests": requests, "failures": failures, "by_name": dict(by_name)}


def keep_open(channel, address, port):
    """A job: one connection that asks, sends the answer, waits to be stopped and asks once more.

    Returns the second answer: whether a change in between left the open connection alone.
    """
    sock = _socket(address, socket.SOCK_STREAM)
    try:
        sock.connect((address, port))
        channel.send(_request(sock, address))
        channel.wait_for_stop()
        return _request(sock, address)
    finally:
        sock.close()


def be_greeted(channel, address, port):
    """A job: a connection that says nothing. Sends its server's greeting, returns how it ended:
    "stopped", or "closed" where the other side did that first."""
    sock = _socket(address, socket.SOCK_STREAM)
    with sock, selectors.DefaultSelector() as selector:
        sock.connect((address, port))
        channel.send(sock.recv(65536).decode())
        selector.register(sock, selectors.EVENT_READ)
        selector.register(channel.fileno(), selectors.EVENT_READ)
        ready = {key.fileobj for key, _ in selector.select()}
    return "closed" if sock in ready else "stopped"


def _wait_for_end(channel, sock):
    """"stopped", or what a reader meets: an error's name, "closed"."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        selector.register(channel.fileno(), selectors.EVENT_READ)
        ready = {key.fileobj for key, _ in selector.select()}
    if sock not in ready:
        return "stopped"
    try:
        return "more" if sock.recv(65536) else "closed"
    except OSError as error:
        return error_name(error)


def until_closed(channel, address, port):
    """A job: one connection that asks, sends the answer and returns how it ended."""
    sock = _socket(address, socket.SOCK_STREAM)
    with sock:
        sock.connect((address, port))
        channel.send(_request(sock, address))
        return _wait_for_end(channel, sock)


def udp_until_closed(channel, address, port):
    """The same for a connected UDP socket; sends the name of who answered."""
    sock = _socket(address, socket.SOCK_DGRAM)
    with sock:
        sock.connect((address, port))
        sock.send(b"hello")
        channel.send(sock.recv(65536).decode().split(":")[0])
        return _wait_for_end(channel, sock)


def http_get(address, port, path):
    """(status, body) of a small page, to its end; (0, error) where nobody answers."""
    sock = _socket(address, socket.SOCK_STREAM)
    try:
        sock.connect((address, port))
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
        )
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    except OSError as error:
        return 0, error_name(error)
    finally:
        sock.close()
    head, _, body = data.partition(b"\r\n\r\n")
    try:
        return int(head.split()[1]), _unchunk(head, body).decode()
    except (IndexError, ValueError):
        return 0, f"no HTTP answer: {data[:80]!r}"


def _unchunk(head, body):
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            break
        whole += rest[:length]
        body = rest[length + 2 :]
    return whole
