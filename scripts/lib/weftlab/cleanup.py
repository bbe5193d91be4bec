"""Whatever the laboratory makes is undone on every way out: return, exception, SIGINT, SIGTERM,
SIGHUP.

Names carry the pid of their maker, `weft-lab-<pid>-<n>`, so that test files run side by side and so
that what a SIGKILL left behind can be told from what is in use.
"""

import atexit
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from . import kernel

PREFIX = "weft-lab"
RUN_ROOT = "/run/weft-lab"
_NAME = re.compile(rf"^{PREFIX}-(\d+)(-|$)")

_closers = []
_owner = None


def register(close):
    """`close` runs at exit, newest first, unless forget() is called before."""
    _install()
    _closers.append(close)


def forget(close):
    with contextlib.suppress(ValueError):
        _closers.remove(close)


def leave_to_parent():
    """In a forked child: nothing here is the child's to undo."""
    global _owner
    _owner = None
    _closers.clear()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _install():
    global _owner
    if _owner == os.getpid():
        return
    _owner = os.getpid()
    atexit.register(close_all)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit_on_signal)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_on_signal(number, _frame):
    sys.exit(128 + number)


def close_all():
    """Also for who leaves by os._exit()."""
    if _owner != os.getpid():
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while _closers:
        try:
            _closers.pop()()
        except Exception as error:  # the rest must still be undone
            print(f"weftlab: while cleaning up: {error}", file=sys.stderr)


def kill_cgroup(path, guard_seconds=60):
    """Ends every process below `path` and removes the cgroup."""
    if not os.path.isdir(path):
        return
    for folder, _, _ in os.walk(path, topdown=False):
        _kill_members(folder)
    deadline = time.monotonic() + guard_seconds
    while True:
        busy = False
        for folder, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:  # EBUSY: a killed process is still on its way out
                busy = True
                _kill_members(folder)
        if not busy:
            return
        if time.monotonic() > deadline:
            raise kernel.LabError(f"cannot remove cgroup {path}: still in use")
        time.sleep(0.005)


def _kill_members(folder):
    with contextlib.suppress(OSError):
        with open(f"{folder}/cgroup.procs", encoding="ascii") as members:
            pids = [int(line) for line in members]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def remove_netns(names):
    present = [name for name in names if os.path.exists(f"{kernel.NETNS_DIR}/{name}")]
    if present:
        lines = "".join(f"netns del {name}\n" for name in present)
        subprocess.run(["ip", "-force", "-batch", "-"], input=lines.encode(), check=False)


def remove_tree(path, guard_seconds=10):
    """A run directory or a directory of pins; a bpffs mounted in it goes first."""
    deadline = time.monotonic() + guard_seconds
    while True:
        for mounted in sorted(kernel.mounts("bpf"), reverse=True):
            if mounted == path or mounted.startswith(path + "/"):
                kernel.unmount(mounted)
        failed = []
        shutil.rmtree(path, onerror=lambda _, name, why, to=failed: to.append(f"{name}: {why[1]}"))
        if not os.path.lexists(path):
            return
        # Somebody still wrote into it while it was emptied, or a mount is not in sight.
        if time.monotonic() > deadline:
            why = failed[0] if failed else "it is there again"
            raise kernel.LabError(f"cannot remove {path}: {why}")
        time.sleep(0.005)


def _named(folder):
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            found = _NAME.match(name)
            if found:
                yield int(found.group(1)), name


def _mine(pid_wanted):
    """(owner pid, kind, path) of everything that carries a laboratory name."""
    places = [("netns", kernel.NETNS_DIR), ("run directory", RUN_ROOT)]
    places += [("cgroup", mount) for mount in kernel.mounts("cgroup2")]
    places += [("bpffs", mount) for mount in kernel.mounts("bpf") if not mount.startswith(RUN_ROOT)]
    for kind, folder in places:
        for pid, name in _named(folder):
            if pid_wanted(pid):
                yield pid, kind, f"{folder}/{name}"


def _alive(pid):
    return os.path.exists(f"/proc/{pid}")


def leftovers(owner=None):
    """What is still there, one line each. `owner`: of that pid only; else of every dead owner."""
    wanted = (lambda pid: pid == owner) if owner else (lambda pid: not _alive(pid))
    found = []
    for pid, kind, path in _mine(wanted):
        found.append(f"{kind} {path} of pid {pid}")
        if kind == "cgroup":
            found += [f"process {line}" for line in _processes(path)]
    return found


def _processes(cgroup):
    for folder, _, _ in os.walk(cgroup):
        with contextlib.suppress(OSError):
            with open(f"{folder}/cgroup.procs", encoding="ascii") as members:
                for pid in members.read().split():
                    with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
                        yield f"{pid} ({comm.read().strip()}) in {folder}"


def cleanup_stale():
    """Removes what owners that are dead left behind (they were killed with SIGKILL)."""
    stale = list(_mine(lambda pid: not _alive(pid)))
    for _, kind, path in stale:
        if kind == "cgroup":
            kill_cgroup(path)
    remove_netns([os.path.basename(path) for _, kind, path in stale if kind == "netns"])
    for _, kind, path in stale:
        if kind in ("run directory", "bpffs"):
            with contextlib.suppress(kernel.LabError):  # leftovers() goes on naming it
                remove_tree(path)
    return [path for _, _, path in stale]
