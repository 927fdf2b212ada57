"""Build etcd, Kubernetes' programs and the KubeRay operator with Go, once, into the cache.

What is built is said by the `go.mod` of each folder in `go/`; its hash names the folder in the cache, so a changed
version is a new build. They are two modules because they ask for different versions of the same libraries.
"""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from env import cache
from env.cache import Unavailable

MODULES = Path(__file__).resolve().parent / "go"
CONTROL_PLANE, OPERATOR = MODULES / "control-plane", MODULES / "operator"
GO = (1, 26)  # the oldest that Kubernetes' own go.mod takes


@dataclass(frozen=True)
class Programs:
    """Where each program is."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    kubectl: Path


def control_plane() -> Programs:
    """etcd and Kubernetes' programs; those in `KUBEBUILDER_ASSETS` are taken from there, if it is set."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and not (Path(assets) / "kube-apiserver").exists():
        raise Unavailable(f"KUBEBUILDER_ASSETS is {assets}, where there is no kube-apiserver")
    built = _build_once("kube", CONTROL_PLANE, _build_control_plane)

    def find(name: str) -> Path:
        given = Path(assets) / name if assets else None
        return given if given and given.exists() else built / name

    return Programs(find("etcd"), find("kube-apiserver"), find("kube-controller-manager"), find("kubectl"))


def operator() -> Path:
    """The KubeRay operator."""
    return _build_once("kuberay", OPERATOR, _build_operator) / "ray-operator"


def _build_control_plane(folder: Path) -> None:
    version = _required("k8s.io/kubernetes", CONTROL_PLANE)
    major, minor, _ = version.removeprefix("v").split(".")
    stamp = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamp.items())
    _build(CONTROL_PLANE, folder / "etcd", "go.etcd.io/etcd/server/v3")
    for name in ("kube-apiserver", "kube-controller-manager", "kubectl"):
        _build(CONTROL_PLANE, folder / name, f"k8s.io/kubernetes/cmd/{name}", flags)


def _build_operator(folder: Path) -> None:
    _build(OPERATOR, folder / "ray-operator", "github.com/ray-project/kuberay/ray-operator")


def _build_once(kind: str, module: Path, build) -> Path:
    """The folder of the cache with what this module builds; nothing else of the build stays on the disk."""
    text = (module / "go.mod").read_bytes() + (module / "go.sum").read_bytes()
    name = f"{kind}-{hashlib.sha256(text).hexdigest()[:12]}"
    final = cache.root() / name
    if final.exists():
        return final
    with cache.lock("go"):  # one at a time: each alone has work for all cores
        _check_go()
        folder = cache.build_once(name, build)
        for left in (_go_cache(), _modules()):
            _remove_read_only(left)
    return folder


def _build(module: Path, output: Path, package: str, linker_flags: str = "") -> None:
    """One program. The compiler's results are kept until all is built, so a build that was cut off goes on."""
    # The address where modules come from is the machine's own setting; everything else is set here.
    environment = {
        **os.environ,
        "GOCACHE": str(_go_cache()),
        "GOMODCACHE": str(_modules()),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "CGO_ENABLED": "0",
    }
    command = ["nice", "go", "build", f"-ldflags=-s -w {linker_flags}", "-o", str(output), package]
    log = cache.root() / "provision.log"
    with open(log, "a") as out:
        result = subprocess.run(
            command, cwd=module, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            pass_fds=cache.held_locks(),
        )  # fmt: skip
    if result.returncode:
        raise Unavailable(f"{output.name} could not be built (see {log})")


def _check_go() -> None:
    if not shutil.which("go"):
        raise Unavailable("Go is not on this machine; it builds the API server and the operator")
    text = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, cwd="/").stdout
    found = re.match(r"go(\d+)\.(\d+)", text)
    if not found or tuple(map(int, found.groups())) < GO:
        raise Unavailable(f"Go {text.strip() or '?'} is too old: {GO[0]}.{GO[1]} is needed")


def _required(module: str, folder: Path) -> str:
    """The version of a module that this folder's go.mod asks for."""
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", (folder / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise Unavailable(f"{folder / 'go.mod'} asks for no {module}")
    return found.group(1)


def _go_cache() -> Path:
    return cache.root() / "go-build"


def _modules() -> Path:
    return cache.root() / "go-modules"


def _remove_read_only(folder: Path) -> None:
    """Remove a folder in which Go made the folders read-only."""
    if folder.exists():
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
        shutil.rmtree(folder)
