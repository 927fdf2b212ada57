"""Fixtures: the shared servers, and an installation of Switchyard for each test.

Servers are started once, when the first test wants them, and are shared; every test has its own database,
queues and folder on them. What a machine can't have is left out with its reason, or fails the test if
YARD_TEST_REQUIRE is set.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from env import process, servers
from env.cache import Unavailable
from kube.kuberay import KubeRay

from support import reaper
from support.database import Database
from support.kubernetes import Target
from support.queues import Queues
from support.yard import Yard, tail

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "target" / os.environ.get("YARD_TEST_LOGS", "e2e-logs")


def pytest_configure(config):
    """A signal ends the servers too; logs of failed tests of an earlier run go."""
    process.end_on_signals()
    shutil.rmtree(LOGS, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Lets fixtures know how their test went."""
    outcome = yield
    report = outcome.get_result()
    setattr(item, f"report_{report.when}", report)


def _server(make):
    """Starts a server, or skips the test that wants it, with the reason."""
    try:
        return make().start()
    except Unavailable as reason:
        if os.environ.get("YARD_TEST_REQUIRE"):
            raise
        pytest.skip(f"left out: {reason}")


@pytest.fixture(scope="session")
def binary(scratch) -> Path:
    """The program under test: YARD_TEST_BINARY, or what `cargo build` has made.

    A copy of it, so that a build meanwhile does not change what is tested.
    """
    path = Path(os.environ.get("YARD_TEST_BINARY") or ROOT / "target" / "debug" / "yard")
    assert path.exists(), f"{path} is not there: run `cargo build` first, or tests/run, which does"
    return Path(shutil.copy2(path, scratch / "yard"))


@pytest.fixture(scope="session")
def scratch():
    """The folder of this run. Nothing that belongs to it is left running, even if this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix=f"yt-{os.getpid()}-", dir=process.FOLDERS))
    watch = subprocess.Popen([sys.executable, reaper.__file__, str(folder)], stdin=subprocess.PIPE)
    yield folder
    watch.stdin.close()
    watch.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mariadb():
    """The shared MariaDB."""
    server = _server(servers.MariaDb)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def mysql():
    """The shared MySQL."""
    server = _server(servers.MySql)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def sqs():
    """The shared SQS-compatible server."""
    server = _server(servers.MiniStack)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def ray_heads():
    """The shared pair of Ray heads."""
    with ThreadPoolExecutor() as pool:  # each takes its time, mostly waiting
        shapes = [{"name": "a", "num_cpus": 4}, {"name": "b", "num_cpus": 4, "num_gpus": 2}]
        heads = list(pool.map(lambda shape: _server(lambda: servers.RayHead(**shape)), shapes))
    yield heads
    for head in heads:
        head.remove()


@pytest.fixture(scope="session")
def kuberay():
    """A Kubernetes cluster with the KubeRay operator, and a Ray head behind it."""
    server = _server(KubeRay)
    yield server
    server.remove()


@pytest.fixture
def database_server(request):
    """MariaDB, or MySQL for a test marked `mysql`."""
    return request.getfixturevalue("mysql" if request.node.get_closest_marker("mysql") else "mariadb")


@pytest.fixture
def folder(request, scratch) -> Path:
    """The test's own folder. Afterwards nothing of it runs, and it is deleted."""
    path = scratch / request.node.name.translate(str.maketrans("[]/ ", "----"))
    path.mkdir()
    yield path
    reaper.reap(path)
    if _failed(request.node):
        shutil.copytree(path, LOGS / path.name, ignore=shutil.ignore_patterns("yard-????????????????*"))
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def database(database_server):
    """A database of the test's own."""
    database = Database(database_server).create()
    yield database
    database.drop()


@pytest.fixture
def queues(sqs):
    """A queue and a dead-letter queue of the test's own."""
    queues = Queues(sqs)
    yield queues
    queues.delete()


@pytest.fixture
def yard(request, binary, folder, database, queues):
    """An installation on MariaDB and SQS. Nothing is configured or started yet."""
    yield from _installation(request, Yard(binary, folder, database, queues))


@pytest.fixture
def target(kuberay, folder):
    """A Kubernetes namespace that is driven with the rights that are shipped, and is empty when the test begins."""
    target = Target(kuberay, folder).prepare()
    yield target
    target.close()


@pytest.fixture
def other_target(kuberay, folder):
    """Another namespace of the same Kubernetes cluster, as if it were one of its own."""
    target = Target(kuberay, folder, "-b").prepare()
    yield target
    target.close()


@pytest.fixture
def yard_kube(request, binary, folder, database, queues, target):
    """An installation whose only cluster is that one, once the test has configured it."""
    yield from _installation(request, Yard(binary, folder, database, queues))


@pytest.fixture
def yard_ray(request, binary, folder, database, queues, ray_heads):
    """The same with two Ray heads, which run nothing when the test begins."""
    yield from _installation(request, Yard(binary, folder, database, queues, ray_heads))


def _installation(request, yard: Yard):
    yield yard
    yard.stop()
    if _failed(request.node):
        _explain(yard)
    for head in yard.ray:
        _empty(head)


def _explain(yard: Yard) -> None:
    """Prints what helps to understand a failed test: open jobs with their history, and the ends of the logs."""
    open_jobs = "SELECT id, team, idem_key, state FROM jobs WHERE ended_us IS NULL LIMIT 5"
    try:
        for job in yard.database.query(open_jobs) if yard.database else []:
            print(f"\n--- open job {job['id'].hex()} {job['team']}/{job['idem_key']}: {job['state']} ---")
            for line in yard.database.query("SELECT * FROM history WHERE job_id = %s ORDER BY seq", job["id"]):
                print(line["seq"], line["at_us"], line["actor"], line["code"], line["data"][:300])
            for path in sorted(yard.folder.glob(f"clusters/*/yard-{job['id'].hex()}-*")):
                print(path.relative_to(yard.folder), sorted(child.name for child in path.iterdir()))
    except Exception as error:  # the database may be the very thing that failed
        print(f"no look into the database: {error}")
    for one in yard.processes:
        print(f"\n--- the end of {one.name}'s log (all of it: {LOGS.relative_to(ROOT)}/) ---")
        print(tail(one.log_text()))


def _empty(head) -> None:
    """Stops and deletes everything that a Ray head has, or restarts it if that can't be done."""
    from support.evidence import ray_jobs
    from support.wait import until

    def ended() -> bool:
        return all(job["status"] in ("SUCCEEDED", "FAILED", "STOPPED") for job in ray_jobs(head))

    try:
        for job in ray_jobs(head):
            head.request("POST", f"/api/jobs/{job['submission_id']}/stop")
        until("the head runs nothing", ended, 15)
        for job in ray_jobs(head):
            head.request("DELETE", f"/api/jobs/{job['submission_id']}")
    except (OSError, AssertionError):
        head.restart()


def _failed(node) -> bool:
    reports = [getattr(node, f"report_{when}", None) for when in ("setup", "call")]
    return any(report is not None and report.failed for report in reports)
