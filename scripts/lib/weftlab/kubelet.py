"""Where kubelet and the container runtime put a pod's processes: the names of cgroups, by driver.

systemd driver:
  kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/cri-containerd-<hex>.scope
cgroupfs driver:
  kubepods/burstable/pod<uid>/<hex>
Guaranteed pods lie directly below the root of pods in both.
"""

import hashlib

ROOTS = {"systemd": "kubepods.slice", "cgroupfs": "kubepods"}
QUALITIES = ("guaranteed", "burstable", "besteffort")


def pod_cgroup(driver, uid, quality="burstable"):
    """Below the root of pods."""
    assert quality in QUALITIES
    classes = [] if quality == "guaranteed" else [quality]
    if driver == "cgroupfs":
        return "/".join([*classes, f"pod{uid}"])
    # "-" separates the levels of slices, so a UID has "_" there.
    pod = "-".join(["kubepods", *classes, f"pod{uid.replace('-', '_')}.slice"])
    return "/".join([f"kubepods-{name}.slice" for name in classes] + [pod])


def container_cgroup(driver, uid, number=0):
    """The directory of one container in its pod's."""
    name = hashlib.sha256(f"{uid}/{number}".encode()).hexdigest()
    return f"cri-containerd-{name}.scope" if driver == "systemd" else name
