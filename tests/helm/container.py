#!/usr/bin/python3
"""Runs one container of a rendered pod as a runtime would, as far as that matters to weftd: own
mount namespace, the image's files as root directory (read-only), the volumes and nothing else
mounted, the capabilities asked for and no others.

What a runtime does besides and this does not: seccomp, AppArmor, SELinux, cgroup limits.

As a program: `unshare --mount --cgroup --propagation private container.py SPEC.json` becomes the
container's process. Container.command() makes that command line.
"""

import ctypes
import json
import os
import re
import subprocess
import sys

# linux/capability.h, those that the chart may name; all others are dropped.
CAPABILITIES = {
    "DAC_READ_SEARCH": 2,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_ADMIN": 12,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_RESOURCE": 24,
    "PERFMON": 38,
    "BPF": 39,
}
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


class Container:
    """`pod` is a pod's spec, `container` one of its containers. `host_paths` says which directory
    of this machine plays each hostPath; `root` is the image's directory, None for this machine's
    own /usr with the binaries of `binaries` in /usr/local/bin."""

    def __init__(self, pod, container, host_paths, node_name, *, root=None, binaries=None):
        self.entrypoint = ["/usr/local/bin/weftd"]
        self.pod = pod
        self.container = container
        self.host_paths = host_paths
        self.root = root
        self.binaries = binaries
        self.env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        for variable in container.get("env", []):
            field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            known = {"spec.nodeName": node_name, "metadata.namespace": "weft"}
            self.env[variable["name"]] = known[field] if field else variable["value"]
        self.capabilities = list(container["securityContext"]["capabilities"]["add"])

    def arguments(self):
        """As kubelet expands them: $(NAME) is a variable of the container, unknown ones stay."""
        return [
            re.sub(r"\$\((\w+)\)", lambda found: self.env.get(found[1], found[0]), argument)
            for argument in self.container.get("args", [])
        ]

    def mounts(self):
        """[(source here, target in the container, read-only)], in the order of their targets."""
        volumes = {volume["name"]: volume for volume in self.pod["volumes"]}
        rows = []
        for mount in self.container["volumeMounts"]:
            source = volumes[mount["name"]].get("hostPath", {}).get("path")
            if source not in self.host_paths:
                raise AssertionError(f"nothing plays volume {volumes[mount['name']]}")
            rows.append((self.host_paths[source], mount["mountPath"], mount.get("readOnly", False)))
        return sorted(rows, key=lambda row: row[1])

    def mount_path(self, name):
        return next(m["mountPath"] for m in self.container["volumeMounts"] if m["name"] == name)

    def command(self, spec_path, argv=None):
        """Writes the spec, and returns the command that becomes the container's process."""
        security = self.container["securityContext"]
        assert not security.get("privileged") and security["capabilities"]["drop"] == ["ALL"]
        spec = {
            "root": self.root,
            "binaries": self.binaries,
            "stage": f"{spec_path}.root",
            "mounts": self.mounts(),
            "read_only": security["readOnlyRootFilesystem"],
            "capabilities": self.capabilities,
            "env": self.env,
            "argv": argv or [*self.entrypoint, *self.arguments()],
        }
        with open(spec_path, "w", encoding="utf-8") as file:
            json.dump(spec, file)
        # The cgroup namespace too: runtimes give one on cgroup v2.
        unshare = ["unshare", "--mount", "--cgroup", "--propagation", "private"]
        return [*unshare, "/usr/bin/python3", os.path.abspath(__file__), spec_path]


def _mount(*words):
    subprocess.run(["mount", *words], check=True)


def _bind(source, target, read_only):
    os.makedirs(target, exist_ok=True)
    _mount("-o", "rbind,ro" if read_only else "rbind", source, target)


def _stand_in_image(root, binaries):
    """This machine's /usr in the image's place."""
    for name in ("usr", "bin", "sbin", "lib", "lib64"):
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
        elif os.path.isdir(f"/{name}"):
            _bind(f"/{name}", f"{root}/{name}", True)
    os.makedirs(f"{root}/etc")
    _bind(binaries, f"{root}/usr/local/bin", True)


def _stage(spec):
    root = spec["stage"]
    os.makedirs(root, exist_ok=True)
    if spec["root"]:
        # Over the image, and thrown away with the namespace: mount points may be made in it.
        _mount("-t", "tmpfs", "container", root)
        for part in ("upper", "work", "merged"):
            os.mkdir(f"{root}/{part}")
        layers = f"lowerdir={spec['root']},upperdir={root}/upper,workdir={root}/work"
        _mount("-t", "overlay", "overlay", "-o", layers, f"{root}/merged")
        root = f"{root}/merged"
    else:
        _mount("-t", "tmpfs", "container", root)
        _stand_in_image(root, spec["binaries"])
    for name in ("proc", "sys", "dev"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    _mount("-t", "proc", "proc", f"{root}/proc")
    _mount("-t", "sysfs", "-o", "ro", "sysfs", f"{root}/sys")
    _mount("-t", "tmpfs", "-o", "mode=755", "dev", f"{root}/dev")
    for device in ("null", "zero", "urandom"):
        open(f"{root}/dev/{device}", "w", encoding="ascii").close()
        _mount("--bind", f"/dev/{device}", f"{root}/dev/{device}")
    for source, target, read_only in spec["mounts"]:
        _bind(source, root + target, read_only)
    if spec["read_only"]:
        _mount("-o", "remount,bind,ro", root)
    return root


def _prctl(*arguments):
    if ctypes.CDLL(None, use_errno=True).prctl(*arguments, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl{arguments}")


def _drop_capabilities(kept):
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    keep = {CAPABILITIES[name] for name in kept}
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(last + 1):
        if number not in keep:
            _prctl(_PR_CAPBSET_DROP, number)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    root = _stage(spec)
    _drop_capabilities(spec["capabilities"])  # in force from execve() on, which still is to come
    os.chroot(root)
    os.chdir("/")
    os.execve(spec["argv"][0], spec["argv"], spec["env"])


if __name__ == "__main__":
    main()
