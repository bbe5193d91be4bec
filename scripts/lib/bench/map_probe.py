"""Sees in the pinned maps when the kernel begins to answer differently: bpf() by hand, since a tool
that must be started first is slower than what is measured."""

import ctypes
import mmap
import os
import platform
import select
import socket
import struct
import time

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_LOOKUP, _OBJ_GET = 1, 7
_libc = ctypes.CDLL(None, use_errno=True)
_RECORD_BYTES = 8


def _bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    return _libc.syscall(_SYSCALL[platform.machine()], command, buffer, 128)


class Map:
    """A pinned hash."""

    def __init__(self, path, key_bytes, value_bytes):
        name = ctypes.create_string_buffer(path.encode())
        self.fd = _bpf(_OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), f"cannot open {path}")
        self._key = ctypes.create_string_buffer(key_bytes)
        self._value = ctypes.create_string_buffer(value_bytes)
        self._attributes = struct.pack(
            "=IIQQQ", self.fd, 0, ctypes.addressof(self._key), ctypes.addressof(self._value), 0
        )

    def get(self, key):
        """The value's bytes, or None."""
        self._key.raw = key
        return self._value.raw if _bpf(_LOOKUP, self._attributes) == 0 else None


def _service_index(bpffs, address, port):
    key = b"\0" * 10 + b"\xff\xff" + socket.inet_aton(address) + struct.pack("!HBB", port, socket.IPPROTO_TCP, 0)
    value = Map(f"{bpffs}/maps/weft_frontends", 20, 8).get(key)
    if value is None:
        raise RuntimeError(f"the kernel does not know {address}:{port}")
    return struct.unpack("=II", value)[0]


def follow_service(channel, bpffs, address, port):
    """Until stopped: [(CLOCK_MONOTONIC ns, endpoints)] of every change of the service's record that
    was seen, which is what connect() goes by. Looks four thousand times a second."""
    index = _service_index(bpffs, address, port)
    services = Map(f"{bpffs}/maps/weft_services", 4, 8)
    offset = index * _RECORD_BYTES
    page = offset // mmap.PAGESIZE * mmap.PAGESIZE
    words = mmap.mmap(services.fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
    stopped = select.poll()
    stopped.register(channel, select.POLLIN)
    seen, last = [], None
    channel.send("looking")
    while not stopped.poll(0):
        word = words[offset - page : offset - page + _RECORD_BYTES]
        if word != last:
            # bpf/abi/service.h: base:28 count:16, from the low bits up
            seen.append((time.monotonic_ns(), int.from_bytes(word, "little") >> 28 & 0xFFFF))
            last = word
        time.sleep(0.0002)
    return seen


def enrolments(channel, bpffs, folders):
    """For each folder in turn: says that it looks, sends the time when its cgroup is enrolled."""
    workloads = Map(f"{bpffs}/maps/weft_workloads", 8, 8)
    for folder in folders:
        key = struct.pack("=Q", os.stat(folder).st_ino)
        channel.send("looking")
        channel.send(_until_there(workloads, key))


def enrol_new_cgroups(bpffs, folders, pause):
    """Makes each cgroup and waits until it is enrolled: nanoseconds from before mkdir() on."""
    workloads = Map(f"{bpffs}/maps/weft_workloads", 8, 8)
    took = []
    for folder in folders:
        begin = time.monotonic_ns()
        os.mkdir(folder)
        took.append(_until_there(workloads, struct.pack("=Q", os.stat(folder).st_ino)) - begin)
        time.sleep(pause)
    return took


def _until_there(workloads, key, guard_seconds=30):
    deadline = time.monotonic_ns() + guard_seconds * 1_000_000_000
    while workloads.get(key) is None:
        if time.monotonic_ns() > deadline:
            raise TimeoutError(f"cgroup {key} was not enrolled within {guard_seconds} s")
    return time.monotonic_ns()
