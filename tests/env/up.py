#!/usr/bin/env python3
"""Runs one command with private servers around it.

    python3 tests/env/up.py --mariadb --ray 2 -- pytest tests

Gets and starts what the flags ask for, exports where it is (README.md lists the
variables), runs the command and exits with its code. Nothing is left running.
What can't be had is left out, with a line that says so; with --require that is
an error.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from env import process, provision, servers  # noqa: E402
from env.cache import Unavailable  # noqa: E402
from kube.cluster import Cluster  # noqa: E402
from kube.kuberay import KubeRay  # noqa: E402

# Unlike on purpose; the numbers are what a head offers, not what the machine has.
HEADS = [
    {"name": "a", "num_cpus": 4},
    {"name": "b", "num_cpus": 4, "num_gpus": 2, "resources": {"fast": 4}},
    {"name": "c", "num_cpus": 8},
    {"name": "d", "num_cpus": 2, "num_gpus": 8},
]


def main() -> int:
    options = parse_arguments()
    process.end_on_signals()
    try:
        exported = start_all(options)
        return run(options.command, {**os.environ, **exported})
    except KeyboardInterrupt:
        return 130
    finally:
        process.remove_all()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a command with private test servers around it.")
    parser.add_argument("--mariadb", action="store_true", help="a MariaDB server")
    parser.add_argument("--mysql", action="store_true", help="a MySQL 9 server")
    parser.add_argument("--ministack", action="store_true", help="an SQS-compatible server")
    parser.add_argument("--ray", type=int, default=0, metavar="N", choices=range(len(HEADS) + 1), help="N Ray heads")
    parser.add_argument("--kube", action="store_true", help="a Kubernetes API server with KubeRay's CRDs")
    parser.add_argument("--kuberay", action="store_true", help="the same with nodes, the operator and a Ray head behind it")
    parser.add_argument("--python", action="store_true", help="the Python venv; --ministack and --ray imply it")
    parser.add_argument("--require", action="store_true", help="fail if something can't be had")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    return parser.parse_args()


def start_all(options: argparse.Namespace) -> dict[str, str]:
    """Start what was asked for; the variables that say where it is."""
    steps = [
        ("MariaDB", options.mariadb, start_mariadb),
        ("MySQL", options.mysql, start_mysql),
        ("the Python packages", options.python or options.ministack or options.ray or options.kuberay, export_python),
        ("ministack (SQS)", options.ministack, start_ministack),
        ("Ray", options.ray, lambda: start_ray(options.ray)),
        ("Kubernetes", options.kube and not options.kuberay, start_kube),
        ("KubeRay", options.kuberay, start_kuberay),
    ]
    exported: dict[str, str] = {}
    for name, wanted, step in steps:
        if not wanted:
            continue
        try:
            exported |= step()
        except Unavailable as reason:
            print(f"left out: {name}: {reason}", file=sys.stderr, flush=True)
            if options.require:
                sys.exit(3)
    return exported


def start_mariadb() -> dict[str, str]:
    return {"YARD_TEST_MARIADB_URL": servers.MariaDb().start().url}


def start_mysql() -> dict[str, str]:
    return {"YARD_TEST_MYSQL_URL": servers.MySql().start().url}


def export_python() -> dict[str, str]:
    return {"YARD_TEST_PYTHON": str(provision.python())}


def start_ministack() -> dict[str, str]:
    server = servers.MiniStack().start()
    return {"YARD_TEST_SQS_ENDPOINT": server.endpoint, **server.credentials}


def start_ray(count: int) -> dict[str, str]:
    heads = [servers.RayHead(**shape).start() for shape in HEADS[:count]]
    return {
        "YARD_TEST_RAY_ADDRESSES": ",".join(head.address for head in heads),
        "YARD_TEST_RAY_TOKENS": ",".join(head.token for head in heads),
    }


def start_kube() -> dict[str, str]:
    return kube_variables(Cluster().start())


def start_kuberay() -> dict[str, str]:
    return {**kube_variables(KubeRay().start().cluster), "YARD_TEST_KUBERAY": "1"}


def kube_variables(cluster: Cluster) -> dict[str, str]:
    assets = str(cluster.programs.apiserver.parent)
    return {"YARD_TEST_KUBECONFIG": str(cluster.kubeconfig), "KUBEBUILDER_ASSETS": assets}


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run the command to its end; end it first if we are told to end."""
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    try:
        code = child.wait()
    except BaseException:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
        raise
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
