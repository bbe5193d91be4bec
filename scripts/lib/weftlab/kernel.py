"""System calls Python 3.11 has no name for, and where this machine keeps cgroup2 and bpffs."""

import ctypes
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_MNT_DETACH = 2

NETNS_DIR = "/run/netns"


class LabError(Exception):
    """Something the laboratory needs is missing or did not work; its text is one line."""


def _check(result, what):
    if result != 0:
        code = ctypes.get_errno()
        raise LabError(f"{what}: {os.strerror(code)}")


def enter_cgroup(path):
    with open(f"{path}/cgroup.procs", "w", encoding="ascii") as members:
        members.write(str(os.getpid()))


def enter_netns(path):
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, _CLONE_NEWNET), f"cannot enter network namespace {path}")
    finally:
        os.close(fd)


def die_with_parent(parent_pid):
    """SIGKILL for this process when its parent dies; at once if that has happened already."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def mount(source, target, fstype):
    _check(
        _libc.mount(source.encode(), target.encode(), fstype.encode(), 0, None),
        f"cannot mount {fstype} at {target}",
    )


def unmount(target):
    """Lazily, so that a process still inside does not keep it in everybody's sight."""
    _libc.umount2(target.encode(), _MNT_DETACH)


def mounts(fstype):
    with open("/proc/mounts", encoding="utf-8") as table:
        rows = [line.split() for line in table]
    return [row[1] for row in rows if row[2] == fstype]


def cgroup2_root():
    found = mounts("cgroup2")
    if not found:
        raise LabError(
            "no cgroup v2 mount in /proc/mounts: weft attaches to cgroup v2; "
            "mount one with: mount -t cgroup2 none /sys/fs/cgroup/unified"
        )
    return found[0]


def require_root(what):
    if os.geteuid() != 0:
        raise LabError(f"{what} needs root (network namespaces, cgroups, BPF): run it with sudo")
