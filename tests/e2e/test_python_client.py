"""clients/python against a real server: every method, both clients, and whether its types are those of the API."""

import asyncio
import inspect
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "python"
sys.path[:0] = [str(CLIENT), str(CLIENT / "src")]

from yard_client import AsyncClient, Client, Conflict, NotFound, Rejected, Unreachable, YardError  # noqa: E402

from support.jobs import Job  # noqa: E402


@pytest.fixture
def server(yard):
    """One process; how to talk to it."""
    yard.configure()
    [process] = yard.start(1)
    return process


def client_of(yard, process, kind=Client, **settings):
    """A client with whatever access the tests' own has."""
    return kind(process.url, token=getattr(yard.api, "token", None), **settings)


def test_types_are_those_of_the_api(yard, server):
    import generate

    document = yard.api.get("/openapi.json")
    assert generate.models(document) == generate.TARGET.read_text(), "run clients/python/generate.py"
    mypy = [sys.executable, "-m", "mypy", "--cache-dir", str(yard.folder / "mypy")]
    checked = subprocess.run(mypy, cwd=CLIENT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_both_clients_have_the_same_methods():
    def methods(kind) -> dict:
        named = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(m).parameters) for name, m in named if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)
    assert len(methods(Client)) == 11


def test_a_job_from_submission_to_output(yard, server):
    with client_of(yard, server) as client:
        entrypoint = "echo one; echo zwölf; printf end"
        document = {"team": "ads", "key": "a/b?c%d", "entrypoint": entrypoint, "resources": {"cpu": 1}}
        assert client.receipt("ads", "a/b?c%d") is None
        job = client.submit(document)
        assert job["created"] and not client.submit(**document)["created"]
        assert client.submit(document)["id"] == job["id"]
        done = client.wait(job["id"], timeout_s=20)
        assert done["state"] == "succeeded" and done["spec"]["entrypoint"] == entrypoint
        assert list(client.log_lines(job["id"])) == ["one", "zwölf", "end"]
        assert b"".join(client.logs(job["id"], offset=4)).decode() == "zwölf\nend"
        receipt = client.receipt("ads", "a/b?c%d")
        assert receipt and receipt["verdict"] == "accepted" and receipt["job"] == job["id"]
        assert [line["event"] for line in client.history(job["id"])][-1] == "succeeded"
        assert client.stop(job["id"], "too late")["answer"] == "already_ended"
        without_key = client.submit(team="ads", entrypoint="true")
        assert without_key["key"].startswith("py:")
        listed = [one["id"] for one in client.jobs(team="ads", limit=1)]
        assert listed == [without_key["id"], job["id"]], "page after page, newest first"
        client.wait(without_key["id"], timeout_s=20)


def test_what_is_wrong_is_told(yard, server):
    with client_of(yard, server) as client:
        with pytest.raises(Rejected) as rejected:
            client.submit(team="nobody", entrypoint="true", resources={"cpu": -1})
        assert {error["field"] for error in rejected.value.errors} >= {"team", "resources.cpu"}
        assert "resources.cpu" in str(rejected.value)
        first = client.submit(team="ads", key="k", entrypoint="true")
        with pytest.raises(Conflict) as conflict:
            client.submit(team="ads", key="k", entrypoint="false")
        assert conflict.value.job == first["id"]
        for call in (client.job, client.explain, client.stop, lambda id: list(client.logs(id))):
            with pytest.raises(NotFound):
                call("01900000-0000-7000-8000-000000000000")
        waits = client.submit(team="ads", entrypoint="sleep 600")
        with pytest.raises(TimeoutError, match=waits["id"]):
            client.wait(waits["id"], timeout_s=0.2)
        assert client.stop(waits["id"])["answer"] in ("requested", "stopped")
        assert client.wait(waits["id"], timeout_s=20)["state"] == "stopped"
    with Client("http://127.0.0.1:9", patience_s=0.5) as nobody, pytest.raises(Unreachable):
        nobody.job("x")


def test_following_survives_a_restart(yard, server):
    """The server is killed in the middle of a followed log and started again: nothing is missing, nothing comes twice."""
    with client_of(yard, server) as client:
        count = "for i in $(seq 1 40); do echo line $i; sleep 0.1; done"
        job = client.submit(team="ads", entrypoint=count, resources={"cpu": 1})
        lines: list[str] = []
        client_lines = client_following(client, job["id"], yard)
        for line in client_lines:
            lines.append(line)
            if len(lines) == 10:
                server.kill()
                server.start()
        assert lines == [f"line {i}" for i in range(1, 41)]
        assert client.wait(job["id"], timeout_s=20)["state"] == "succeeded"


def test_following_goes_through_the_attempts(yard, server):
    """It waits for the first attempt, goes on with the next, and is taken up where it broke in that one, too."""
    marker = yard.folder / "failed-once"
    say = "for i in 1 2 3 4 5 6 7 8; do echo $name $i; sleep 0.2; done"
    entrypoint = f"if [ -e {marker} ]; then name=second; {say}; else touch {marker}; echo first; exit 3; fi"
    second = [f"second {i}" for i in range(1, 9)]
    with client_of(yard, server) as client:
        job = client.submit(team="ads", entrypoint=entrypoint, resources={"cpu": 1}, retry={"max_retries": 1})
        lines: list[str] = []
        for line in client.log_lines(job["id"], follow=True):
            lines.append(line)
            if line == second[2]:
                server.kill()
                server.start()
        assert lines == ["first", *second]
        assert client.wait(job["id"], timeout_s=20)["state"] == "succeeded"
        assert list(client.log_lines(job["id"])) == second
        assert list(client.log_lines(job["id"], attempt=1)) == ["first"]
        whole = list(client.log_lines(job["id"], attempt="all"))
        assert [line for line in whole if not line.startswith("---")] == ["first", *second]
        with pytest.raises(YardError, match="source"):
            list(client.log_lines(job["id"], source="cellar"))  # type: ignore[arg-type]

    async def again() -> list[str]:
        async with client_of(yard, server, AsyncClient) as client:
            return [line async for line in client.log_lines(job["id"], follow=True)]

    assert asyncio.run(again()) == second, "a job that has ended is followed from its last attempt"


def test_following_an_attempt_that_never_ran(yard, server):
    """It has no log and will have none: that is told once it has ended, and not waited for."""
    with client_of(yard, server) as client:
        environment = {"working_dir": "gcs://_ray_pkg_0123456789abcdef.zip"}
        job = client.submit(team="ads", entrypoint="true", resources={"cpu": 1}, runtime_env=environment)
        with pytest.raises(NotFound) as missing:
            list(client.log_lines(job["id"], follow=True))
        assert missing.value.code == "no_log"
        ended = client.job(job["id"])
        assert ended["state"] == "failed" and all(attempt["ended_at"] for attempt in ended["attempts"])


def client_following(client, job, yard):
    """Its lines, from when it runs."""
    yard.api.wait_state(job, "running")
    return client.log_lines(job, follow=True)


def test_the_asynchronous_client(yard, server):
    async def many() -> None:
        async with client_of(yard, server, AsyncClient) as client:
            fields = {"team": "ads", "entrypoint": "echo hello", "resources": {"cpu": 0.1}}
            jobs = await asyncio.gather(*(client.submit(**fields, key=f"job-{i}") for i in range(5)))
            ended = await asyncio.gather(*(client.wait(job["id"], timeout_s=30) for job in jobs))
            assert [job["state"] for job in ended] == ["succeeded"] * 5
            assert [line async for line in client.log_lines(jobs[0]["id"])] == ["hello"]
            assert {job["id"] async for job in client.jobs(team="ads", limit=2)} == {job["id"] for job in jobs}
            assert [line["event"] async for line in client.history(jobs[0]["id"])][-1] == "succeeded"
            with pytest.raises(NotFound):
                await client.job("01900000-0000-7000-8000-000000000000")

    asyncio.run(many())


def test_a_server_that_comes_later_is_waited_for(yard, server):
    """Calls are tried again while the server is away."""
    server.kill()
    thread = threading.Timer(1.0, server.start)
    thread.start()
    began = time.monotonic()
    with client_of(yard, server) as client:
        job = client.submit(json.loads(json.dumps(Job("ads", "late", 0.1).document(yard.log.path))))
    thread.join()
    assert time.monotonic() - began >= 0.9
    assert yard.api.wait_end(job["id"])["state"] == "succeeded"
