"""Backends with real sockets: an HTTP/1.1 server and a UDP echo, which answer with their own name.

Jobs for pod.serve(): they report that they listen, then serve until they are told to stop.
"""

import contextlib
import selectors
import socket

_REQUEST_END = b"\r\n\r\n"


def _listen(address, port, kind):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":  # both families
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(1024)
    sock.setblocking(False)
    return sock


def _answer(name):
    body = f"{name}\n".encode()
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Backend: {name}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class _Connections:
    """Every connection of one server process; keep-alive, one answer a request head (GET only)."""

    def __init__(self, selector):
        self._selector = selector
        self.requests = 0

    def accept(self, listener, answer):
        try:
            while True:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pending = bytearray()
                self._selector.register(
                    sock, selectors.EVENT_READ, lambda s, a=answer, p=pending: self._read(s, a, p)
                )
        except BlockingIOError:
            pass
        except OSError:  # the client was gone before it was accepted
            pass

    def _read(self, sock, answer, pending):
        try:
            data = sock.recv(65536)
            pending += data
            while _REQUEST_END in pending:
                del pending[: pending.index(_REQUEST_END) + len(_REQUEST_END)]
                self.requests += 1
                sock.send(answer)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(sock)
            sock.close()


def http(channel, name, *ports, address="::"):
    """Answers every GET with `name`; with several ports the answer is `name:port`."""
    return _serve(channel, name, ports, [address])


def http_at(channel, name, addresses, *ports):
    """The same on chosen addresses, for pods that share a network namespace."""
    return _serve(channel, name, ports, addresses)


def _serve(channel, name, ports, addresses):
    with contextlib.ExitStack() as listeners, selectors.DefaultSelector() as selector:
        connections = _Connections(selector)
        for port in ports:
            answer = _answer(f"{name}:{port}" if len(ports) > 1 else name)
            for where in addresses:
                listener = listeners.enter_context(_listen(where, port, socket.SOCK_STREAM))
                selector.register(
                    listener, selectors.EVENT_READ, lambda s, a=answer: connections.accept(s, a)
                )
        _loop(channel, selector)
    return connections.requests


def greeting(channel, text, port, address="::"):
    """Speaks first, as a mail server does, and says nothing more until its client ends."""
    with contextlib.ExitStack() as sockets, selectors.DefaultSelector() as selector:

        def accept(listener):
            with contextlib.suppress(OSError):  # nobody else, or the client was gone before
                while True:
                    sock = sockets.enter_context(listener.accept()[0])
                    sock.send(text.encode())
                    selector.register(sock, selectors.EVENT_READ, read)

        def read(sock):
            with contextlib.suppress(OSError):
                if sock.recv(65536):
                    return
            selector.unregister(sock)
            sock.close()

        listener = sockets.enter_context(_listen(address, port, socket.SOCK_STREAM))
        selector.register(listener, selectors.EVENT_READ, accept)
        _loop(channel, selector)


def udp(channel, name, *ports, address="::"):
    """Answers every datagram with `name:port datagram`, from the address it was sent to."""
    with contextlib.ExitStack() as sockets, selectors.DefaultSelector() as selector:
        for port in ports:
            sock = sockets.enter_context(_listen(address, port, socket.SOCK_DGRAM))
            selector.register(
                sock, selectors.EVENT_READ, lambda s, p=port: _echo(s, f"{name}:{p} ".encode())
            )
        _loop(channel, selector)


def _echo(sock, prefix):
    try:
        data, sender = sock.recvfrom(65536)
        sock.sendto(prefix + data, sender)
    except OSError:  # an ICMP error of an earlier answer: a UDP server carries on
        pass


def _loop(channel, selector):
    selector.register(channel.fileno(), selectors.EVENT_READ, None)
    channel.send("listening")
    while True:
        for key, _ in selector.select():
            if key.data is None:
                return
            key.data(key.fileobj)
