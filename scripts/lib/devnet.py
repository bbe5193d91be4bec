"""scripts/devnet: a keeper process owns the nodes and undoes them when it is told to end."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time

import yaml

from weftlab import (
    CommandFailed,
    Hang,
    LabError,
    Manifests,
    RemoteError,
    VirtualNode,
    Weftd,
    binary,
    close_all,
    join,
    require_root,
    server,
)

STATE_ROOT = "/run/weft-devnet"
_ERRORS = (LabError, CommandFailed, Hang, RemoteError, OSError, yaml.YAMLError)


def load(path):
    with open(path, encoding="utf-8") as file:
        plan = yaml.safe_load(file)
    for key in ("name", "nodes"):
        if not isinstance(plan, dict) or not plan.get(key):
            raise LabError(f'{path}: "{key}" is missing')
    for node in plan["nodes"]:
        unknown = set(node) - {"name", "pods", "flags"}
        if unknown or "name" not in node:
            raise LabError(
                f"{path}: a node has name, pods and flags, not: {', '.join(sorted(unknown))}"
            )
        for pod in node.get("pods", []):
            unknown = set(pod) - {"name", "http", "udp"}
            if unknown or "name" not in pod:
                raise LabError(
                    f"{path}: a pod has name, http and udp, not: {', '.join(sorted(unknown))}"
                )
    return plan


def state_dir(plan):
    return f"{STATE_ROOT}/{plan['name']}"


def keeper_of(plan):
    """The state of a running devnet of that name, or None."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        with open(f"{state_dir(plan)}/state.json", encoding="utf-8") as file:
            state = json.load(file)
        if os.path.exists(f"/proc/{state['pid']}/ns"):
            return state
    return None


def up(plan, path):
    if keeper_of(plan):
        raise LabError(f"devnet {plan['name']} is up already: scripts/devnet down {path}")
    binary("weftd")
    os.makedirs(state_dir(plan), exist_ok=True)
    print(f"devnet {plan['name']}: making {len(plan['nodes'])} nodes", flush=True)
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.close(ours)
        os.setsid()
        os._exit(keep(plan, theirs))
    os.close(theirs)
    with os.fdopen(ours, encoding="utf-8") as pipe:
        answer = pipe.read()
    if not answer.startswith("{"):
        raise LabError(
            f"devnet {plan['name']} did not start: {answer.strip() or 'the keeper died'}"
        )
    print_help(json.loads(answer), path)
    return 0


def keep(plan, pipe):
    """The keeper: everything is this process's, so that its end is everything's end."""
    report = os.fdopen(pipe, "w", encoding="utf-8")
    wanted = []
    try:
        nodes = make(plan)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _: wanted.append(number))
        state = describe(plan, nodes)
        with open(f"{state_dir(plan)}/state.json", "w", encoding="utf-8") as file:
            json.dump(state, file, indent=2)
        report.write(json.dumps(state))
        report.close()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        if not wanted:
            signal.sigwait({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        return 0
    except _ERRORS as error:
        report.write(str(error))
        report.close()
        return 1
    finally:
        close_all()
        shutil.rmtree(state_dir(plan), ignore_errors=True)


def make(plan):
    mesh_dir = f"{state_dir(plan)}/mesh"
    mesh = Manifests(mesh_dir)
    nodes = []
    for wanted in plan["nodes"]:
        pods = wanted.get("pods", [])
        node = VirtualNode(pods=[pod["name"] for pod in pods], name=wanted["name"])
        nodes.append((node, wanted))
        for pod in pods:
            if pod.get("http"):
                node[pod["name"]].serve(server.http, pod["name"], *pod["http"])
            if pod.get("udp"):
                node[pod["name"]].serve(server.udp, pod["name"], *pod["udp"])
    if len(nodes) > 1:
        join([node for node, _ in nodes])
    addresses = {
        f"{pod.name}.{family}": getattr(pod, family)
        for node, _ in nodes
        for pod in node.pods.values()
        for family in ("v4", "v6")
    }
    mesh.write_text("mesh.yaml", fill(plan.get("manifests", ""), addresses))
    for node, wanted in nodes:
        Weftd(node, *wanted.get("flags", []), sources=[f"dir:{mesh_dir}"]).start()
    return nodes


def fill(text, addresses):
    """${POD.v4} and ${POD.v6}: addresses are known only once the pods are there."""
    for key, address in addresses.items():
        text = text.replace("${" + key + "}", address)
    return text


def describe(plan, nodes):
    return {
        "name": plan["name"],
        "pid": os.getpid(),
        "manifests": f"{state_dir(plan)}/mesh",
        "nodes": [
            {
                "name": node.name,
                "bpffs": node.bpffs,
                "run_dir": node.run_dir,
                "netns": node.netns,
                "pods": [
                    {
                        "name": pod.name,
                        "v4": pod.v4,
                        "v6": pod.v6,
                        "netns": pod.netns,
                        "cgroup": pod.cgroup,
                    }
                    for pod in node.pods.values()
                ],
            }
            for node, _ in nodes
        ],
    }


def print_help(state, path):
    print(f"devnet {state['name']} is up (keeper pid {state['pid']})\n")
    for node in state["nodes"]:
        print(f"node {node['name']}:")
        print(f"  {binary('weftctl')} --bpffs {node['bpffs']} --run-dir {node['run_dir']} status")
        for pod in node["pods"]:
            print(f"  pod {pod['name']} {pod['v4']} {pod['v6']}; a shell in it:")
            print(
                f"    sh -c 'echo $$ > {pod['cgroup']}/cgroup.procs && "
                f"exec nsenter --net=/run/netns/{pod['netns']} sh'"
            )
    print(f"\nmanifests, followed while you edit them: {state['manifests']}")
    print(f"take it down: scripts/devnet down {path}")


def down(plan, guard_seconds=30):
    state = keeper_of(plan)
    if not state:
        print(f"devnet {plan['name']} is not up")
        return 0
    os.kill(state["pid"], signal.SIGTERM)
    deadline = time.monotonic() + guard_seconds
    while os.path.exists(f"/proc/{state['pid']}/ns") and os.path.exists(state_dir(plan)):
        if time.monotonic() > deadline:
            raise LabError(f"keeper {state['pid']} is still there after {guard_seconds} s")
        time.sleep(0.02)
    print(f"devnet {plan['name']} is down")
    return 0


def main(arguments, usage):
    if arguments in (["--help"], ["-h"]):
        print(usage.strip())
        return 0
    if len(arguments) != 2 or arguments[0] not in ("up", "down"):
        print(usage.strip(), file=sys.stderr)
        return 2
    try:
        require_root("devnet")
        plan = load(arguments[1])
        return up(plan, arguments[1]) if arguments[0] == "up" else down(plan)
    except _ERRORS as error:
        print(f"devnet: {error}", file=sys.stderr)
        return 1
