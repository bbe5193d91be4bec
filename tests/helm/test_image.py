#!/usr/bin/python3
"""The Dockerfile, performed without a registry: its last stage's steps, read from the file itself,
in a root made by debootstrap; weftd is started from the result. That takes minutes the first time,
so it is part of the long run; the short one compares the file with what the binaries need."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

import tools
from chart import PodWeftd, host_paths, pod_spec, render
from container import Container
from harness import LONG, NodeTest, main, weftlab

ROOT = os.path.abspath(f"{tools.HERE}/../..")
PROGRAMS = ("weftd", "weftctl", "weft-proxy", "weft-sockets")
# In every Debian image already, because apt needs them.
IN_THE_BASE = {"libc6", "libgcc-s1", "libstdc++6", "zlib1g"}


class Stage:
    def __init__(self, base, name):
        self.base = base
        self.name = name
        self.steps = []  # [(instruction, its text)]

    def of(self, instruction):
        return [text for found, text in self.steps if found == instruction]


def dockerfile():
    """Its stages. An instruction that this cannot perform is an error: nothing is left out."""
    with open(f"{ROOT}/Dockerfile", encoding="utf-8") as file:
        lines = [line for line in file.read().splitlines() if not line.lstrip().startswith("#")]
    stages = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        instruction, _, text = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = text.partition(" AS ")
            stages.append(Stage(base, name))
        elif instruction in ("RUN", "COPY", "WORKDIR", "ENTRYPOINT"):
            stages[-1].steps.append((instruction, text.strip()))
        elif instruction:
            raise AssertionError(f"Dockerfile: {instruction} is not performed by this test")
    return stages


def run(command, **more):
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        check=False,
        **more,
    )
    if done.returncode:
        raise AssertionError(f"{command}: exit {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def owner_of(path):
    """dpkg knows some libraries below /lib and others below /usr/lib."""
    for name in (path, path.removeprefix("/usr")):
        done = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.partition(":")[0]
    raise AssertionError(f"no package owns {path}")


def needed_packages():
    """Of the libraries that the programs name themselves; the rest are dependencies of those."""
    packages = set()
    for program in PROGRAMS:
        path = weftlab.binary(program)
        direct = re.findall(r"\(NEEDED\).*\[(.*)\]", run(["readelf", "-d", path]))
        found = dict(re.findall(r"^\s*(\S+) => (/\S+)", run(["ldd", path]), re.M))
        for name in direct:
            if name in found:  # the dynamic linker is not
                packages.add(owner_of(os.path.realpath(found[name])))
    return packages


class Text(unittest.TestCase):
    def setUp(self):
        self.build, self.final = dockerfile()

    def test_the_last_stage_installs_what_the_programs_link_to_and_nothing_else(self):
        text = " ".join(self.final.of("RUN"))
        listed = re.search(r"apt-get install -y --no-install-recommends(.*?)&&", text)[1].split()
        self.assertEqual(listed, sorted(listed))
        self.assertEqual(set(listed), needed_packages() - IN_THE_BASE)

    def test_both_stages_are_of_the_same_debian_and_the_last_is_the_slim_one(self):
        self.assertEqual(self.final.base, f"{self.build.base}-slim")
        self.assertEqual(self.build.base, "debian:bookworm")

    def test_what_scripts_build_makes_is_what_is_copied(self):
        self.assertIn("scripts/setup", self.build.of("RUN"))
        self.assertTrue(any(text.startswith("scripts/build") for text in self.build.of("RUN")))
        (copy,) = self.final.of("COPY")
        sources = [f"/src/build/bin/{program}" for program in PROGRAMS]
        self.assertEqual(copy.split(), ["--from=build", *sources, "/usr/local/bin/"])

    def test_no_step_needs_a_name_or_a_secret_of_anybody(self):
        with open(f"{ROOT}/Dockerfile", encoding="utf-8") as file:
            self.assertNotRegex(file.read(), r"https?://")


class Context:
    """The build context: what .dockerignore lets through."""

    def __init__(self):
        with open(f"{ROOT}/.dockerignore", encoding="utf-8") as file:
            rules = [line.strip() for line in file if line.strip() and line[0] != "#"]
        assert rules[0] == "*", "this test knows only lists of what is let through"
        self.paths = [rule[1:] for rule in rules if rule.startswith("!")]

    def copy_to(self, target):
        for path in self.paths:
            source = f"{ROOT}/{path}"
            if os.path.isdir(source):
                shutil.copytree(source, f"{target}/{path}", symlinks=True)
            else:
                os.makedirs(os.path.dirname(f"{target}/{path}"), exist_ok=True)
                shutil.copy2(source, f"{target}/{path}")


def mirror():
    """Where this machine's apt gets its packages from."""
    found = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Codename: bookworm"])
    return found.split()[0] if found.split() else None


def base_root(release):
    """An archive of what debootstrap makes of a release; it plays the slim image."""

    def make(path):
        if not shutil.which("debootstrap"):
            raise tools.ToolMissing("debootstrap is missing: install the package debootstrap")
        with tempfile.TemporaryDirectory(dir=tools.cache_dir()) as work:
            words = [release, f"{work}/root", *filter(None, [mirror()])]
            run(["debootstrap", "--variant=minbase", *words])
            run(["tar", "--numeric-owner", "-cf", path, "-C", f"{work}/root", "."])

    return tools.cached(f"debootstrap-{release}.tar", make)


class Image:
    """The Dockerfile's result in a directory."""

    def __init__(self, folder):
        self.build, self.final = dockerfile()
        self.root = f"{folder}/root"
        self.source = f"{folder}/build"
        os.makedirs(self.root)
        release = re.fullmatch(r"debian:(\w+)-slim", self.final.base)[1]
        run(["tar", "--numeric-owner", "-xf", base_root(release), "-C", self.root])
        self._finish_build()
        for instruction, text in self.final.steps:
            {"RUN": self._run, "COPY": self._copy, "ENTRYPOINT": self._note_entrypoint}[
                instruction
            ](text)

    def _finish_build(self):
        """The programs are this machine's; what the stage does after building is done here."""
        workdir = self.source + self.build.of("WORKDIR")[0]
        os.makedirs(f"{workdir}/build/bin")
        for program in PROGRAMS:
            shutil.copy2(weftlab.binary(program), f"{workdir}/build/bin/{program}")
        steps = self.build.of("RUN")
        built = next(i for i, text in enumerate(steps) if text.startswith("scripts/build"))
        for text in steps[built + 1 :]:
            run(["sh", "-ec", text], cwd=workdir)

    def _run(self, text):
        """In a mount and PID namespace of its own: whatever it starts or mounts ends with it."""
        shutil.copy("/etc/resolv.conf", f"{self.root}/etc/resolv.conf")
        proxies = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
        inside = f"mount -t proc proc {self.root}/proc && "
        inside += f"exec chroot {self.root} sh -ec {shlex.quote(text)}"
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        run([*unshare, "--propagation", "private", "sh", "-ec", inside], env={**env, **proxies})

    def _copy(self, text):
        stage, *sources, target = text.split()
        assert stage == f"--from={self.build.name}" and target.endswith("/")
        os.makedirs(self.root + target, exist_ok=True)
        for source in sources:
            shutil.copy2(self.source + source, self.root + target)

    def _note_entrypoint(self, text):
        self.entrypoint = json.loads(text)

    def execute(self, *words):
        return run(["chroot", self.root, *words])


class Built(NodeTest):
    START = False
    WEB = "10.96.0.10"

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="weft-image-")
        cls.addClassCleanup(folder.cleanup)
        cls.image = Image(folder.name)
        super().setUpClass()

    @classmethod
    def prepare(cls):
        os.makedirs(f"{cls.node.cgroup}/kubepods.slice/pod")
        cls.client.run(weftlab.kernel.enter_cgroup, f"{cls.node.cgroup}/kubepods.slice/pod")
        cls.write_service("test/web", [cls.WEB], ["a", "b", "c"])

    def test_the_programs_start_in_it_and_name_the_same_version(self):
        version = self.image.execute(*self.image.entrypoint, "--version").split()
        self.assertEqual(version, run([weftlab.binary("weftd"), "--version"]).split())
        self.assertIn("--cgroup", self.image.execute(*self.image.entrypoint, "--help"))
        self.assertIn("status", self.image.execute("/usr/local/bin/weftctl", "--help"))

    def test_nothing_is_in_it_that_only_building_needs(self):
        installed = self.image.execute("dpkg-query", "-W", "-f", "${Package}\n").split()
        building = [p for p in installed if re.search(r"-dev$|^(gcc|cpp|clang).*[0-9]$", p)]
        self.assertEqual(building, [])
        base = run(["tar", "-tf", base_root("bookworm")]).count("\n")
        files = sum(len(names) for _, _, names in os.walk(self.image.root))
        counted = f"{len(installed)} packages, {files} files, {base} names in the base"
        print(f"image: {counted}", file=sys.stderr)
        programs = [f"{self.image.root}/usr/local/bin/{program}" for program in PROGRAMS]
        self.assertLess(sum(map(os.path.getsize, programs)), 32 << 20)

    def test_the_charts_pod_runs_from_it_and_serves(self):
        pod = pod_spec(render("directory"))
        container = Container(
            pod, pod["containers"][0], host_paths(self.node), self.node.name, root=self.image.root
        )
        container.entrypoint = self.image.entrypoint
        weftd = PodWeftd(self.node, container).start()
        self.assertEqual(set(self.names(self.WEB, 12)), {"a", "b", "c"})
        command = ["/usr/local/bin/weftctl", "-j", "status"]
        command = container.command(f"{self.node.dir}/exec.json", argv=command)
        status = json.loads(weftlab.Weftd(self.node).run_to_end(replace=command).stdout)
        self.assertEqual(status["node"], self.node.name)
        self.assertEqual(weftd.stop(), 0)


class BuildContext(unittest.TestCase):
    def test_what_dockerignore_lets_through_configures(self):
        with tempfile.TemporaryDirectory() as folder:
            Context().copy_to(folder)
            run(["cmake", "--preset", "release"], cwd=folder)
            targets = run(["ninja", "-C", f"{folder}/build", "-t", "query", "weftd", "weftctl"])
            self.assertIn("weftctl", targets)


if not LONG:
    del Built, BuildContext

if __name__ == "__main__":
    try:
        tools.helm4()
        if LONG:
            base_root("bookworm")
    except tools.ToolMissing as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    main()
