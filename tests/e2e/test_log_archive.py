"""Logs are kept while jobs run: they outlive their clusters, dispatchers die without doubling a byte, readers notice little."""

import gzip
import os
import shlex
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import pytest
import requests

from support.jobs import Job
from support.proxy import Proxy
from support.wait import until

LOGS = {"chunk_interval_s": 1, "end_wait_s": 60}


def printer(lines: int, pause_s: float, *, size: int = 0, last: str = "the end") -> str:
    """A command that prints numbered lines, each at once."""
    script = (
        f"import sys, time\nfor i in range({lines}):\n"
        f"    print(f'line {{i}} ' + 'x' * {size}, flush=True)\n    time.sleep({pause_s})\nprint({last!r}, flush=True)"
    )
    return shlex.join(["python3", "-c", script])


def printed(lines: int, *, size: int = 0, last: str = "the end") -> str:
    """What that command prints."""
    return "".join(f"line {i} {'x' * size}\n" for i in range(lines)) + last + "\n"


def submit(yard, key: str, entrypoint: str, **keys) -> str:
    """The id of a job that runs this command."""
    return yard.api.submitted(Job("ads", key, entrypoint=entrypoint, **keys).document(yard.log.path))


def log(yard, job: str, query: str = "plain=true", **kwargs) -> requests.Response:
    """What the API has of a job's log."""
    return yard.api.request("GET", f"/v1/jobs/{job}/logs?{query}", **kwargs)


def archived(yard, job: str, attempt: int = 1, storage=None) -> tuple[str, list[str]]:
    """What is stored of an attempt, joined by hand, and the names of the chunks. Fails if chunks don't agree."""
    folder = (storage or yard.folder / "storage") / "logs" / job / str(attempt)
    whole: dict[int, int] = {}
    names = sorted(path.name for path in folder.glob("*.gz")) if folder.exists() else []
    for name in names:
        start, end = (int(part) for part in name.split(".")[0].split("-"))
        data = gzip.decompress((folder / name).read_bytes())
        assert len(data) == end - start, name
        for place, byte in enumerate(data, start):
            assert whole.setdefault(place, byte) == byte, f"chunks disagree at {place}"
    assert sorted(whole) == list(range(len(whole))), "there is a hole"
    return bytes(whole[i] for i in range(len(whole))).decode(), names


def sealed(yard, job: str, attempt: int = 1, storage=None) -> str:
    """The stored log, once it is complete."""

    def look():
        text, names = archived(yard, job, attempt, storage)
        return (text, names) if any(".end." in name for name in names) else None

    return until("the log is archived to its end", look, 30)[0]


class Follower:
    """A `yard logs -f` that runs beside the test."""

    def __init__(self, yard, job: str, *arguments: str):
        command = [str(yard.binary), "logs", "-f", *arguments, job]
        environment = {**yard.environment, "YARD_SERVER": yard.processes[0].url}
        self._out = open(yard.folder / f"follow-{job}.out", "w+b")
        self._err = open(yard.folder / f"follow-{job}.err", "w+b")
        self.child = subprocess.Popen(command, env=environment, stdout=self._out, stderr=self._err)

    def text(self) -> str:
        """What it has printed so far."""
        self._out.seek(0)
        return self._out.read().decode()

    def said(self) -> str:
        """What it has said of the log."""
        self._err.seek(0)
        return self._err.read().decode()

    def wait(self, timeout_s: float = 40) -> int:
        """Its exit code."""
        try:
            return self.child.wait(timeout_s)
        finally:
            if self.child.poll() is None:
                self.child.kill()


def test_a_log_outlives_its_cluster_byte_for_byte(yard):
    """Live and after the end the same bytes; with the cluster's folder gone, from the archive, whole and in parts."""
    yard.configure(logs=LOGS, dispatcher={"keep_remote_s": 0})
    yard.start(1)
    job = submit(yard, "talker", printer(40, 0.05, size=3000))
    text = printed(40, size=3000)
    until("there is something to read", lambda: log(yard, job).text.startswith("line 0"), 20)
    assert text.startswith(log(yard, job).text)
    assert yard.api.wait_end(job)["state"] == "succeeded"
    assert sealed(yard, job) == text
    folder = yard.folder / "clusters" / "local"
    until("the attempt is removed from its cluster", lambda: not list(folder.glob("yard-*")), 60)
    shutil.rmtree(folder)
    answer = log(yard, job)
    assert answer.text == text
    assert (answer.headers["x-yard-log-source"], answer.headers["x-yard-log-state"]) == ("archive", "complete")
    assert log(yard, job, "offset=70000").text == text[70000:]
    assert log(yard, job, "tail_bytes=100").text == text[-100:]
    part = log(yard, job, "", headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.text) == (206, text[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(text)}"
    assert yard.run("logs", "--server", yard.processes[0].url, "--tail", "1", job).stdout == "the end\n"


def test_a_killed_dispatcher_costs_no_byte_and_doubles_none(yard):
    """SIGKILL of the process that archives, in the middle of a run: the next one goes on from what is stored."""
    yard.configure(logs=LOGS)
    yard.start(2)
    job = submit(yard, "talker", printer(80, 0.1, size=200))
    until("something is archived", lambda: archived(yard, job)[0], 20)
    holder = yard.process_holding("local")
    holder.kill()
    before = archived(yard, job)[0]
    until("another one archives", lambda: len(archived(yard, job)[0]) > len(before), 20)
    holder.start()
    assert yard.api.wait_end(job, 40)["state"] == "succeeded"
    assert sealed(yard, job) == printed(80, size=200) == log(yard, job).text


def test_following_survives_a_restart_of_the_server(yard):
    """`yard logs -f` over a SIGKILL of the only process: nothing twice, nothing left out."""
    yard.configure(logs=LOGS)
    [process] = yard.start(1)
    job = submit(yard, "talker", printer(60, 0.1))
    follower = Follower(yard, job)
    until("it prints", lambda: "line 10 " in follower.text(), 30)
    process.kill()
    time.sleep(1)
    process.start()
    assert follower.wait() == 0
    assert follower.text() == printed(60)


def test_following_goes_on_with_the_retry_on_another_cluster(yard):
    """The first attempt fails on one cluster, the second runs on the other; curl and `yard logs -f` get both."""
    clusters = [yard.process_cluster("one"), yard.process_cluster("two")]
    yard.configure(clusters=clusters, logs=LOGS)
    [process] = yard.start(1)
    assert yard.api.request("POST", "/v1/clusters/two/drain").status_code == 200
    flag = yard.folder / "go"
    script = f"echo on $PWD; if [ -e {flag} ]; then echo second; else while [ ! -e {flag} ]; do sleep 0.1; done; echo failing; exit 1; fi"
    job = submit(yard, "mover", script, max_retries=1)
    follower = Follower(yard, job)
    until("the first attempt prints", lambda: "on " in follower.text(), 30)
    with yard.api.request("GET", f"/v1/jobs/{job}/logs?follow=true", at=process.url, stream=True, timeout=60) as curl:
        for name, switch in (("two", "resume"), ("one", "drain")):
            assert yard.api.request("POST", f"/v1/clusters/{name}/{switch}").status_code == 200
        flag.touch()
        both = curl.content.decode()
    assert "failing\n--- attempt 2 on two ---\n" in both and both.endswith("second\n"), both
    assert follower.wait() == 0
    assert follower.text() == both.replace("--- attempt 2 on two ---\n", "")
    assert "--- attempt 2 ---" in follower.said()
    sealed(yard, job, 2)
    everything = log(yard, job, "attempt=all").text
    assert everything == "--- attempt 1 on one ---\n" + both


def test_storage_that_fails_holds_no_job_up(yard):
    """A storage folder that can't be written: jobs run and end, and stay on their cluster; the archive catches up."""
    yard.configure(logs=LOGS, dispatcher={"keep_remote_s": 0})
    [process] = yard.start(1)
    storage = yard.folder / "storage"
    until("the folder is there", storage.exists, 10)
    storage.rmdir()
    storage.write_text("in the way")
    jobs = [submit(yard, f"job-{i}", printer(3, 0.1)) for i in range(5)]
    for job in jobs:
        assert yard.api.wait_end(job)["state"] == "succeeded"
    until("failures are counted", lambda: yard.api.metric("yard_log_archive_errors_total", process.url, what="storage"), 20)
    assert log(yard, jobs[0]).text == printed(3), "the cluster has it"
    assert len(list((yard.folder / "clusters" / "local").glob("yard-*"))) == 5, "they wait for their logs"
    storage.unlink()
    storage.mkdir()
    for job in jobs:
        assert sealed(yard, job) == printed(3)
    until("they are removed", lambda: not list((yard.folder / "clusters" / "local").glob("yard-*")), 20)
    assert log(yard, jobs[0]).text == printed(3)


def test_logs_in_a_bucket(yard, sqs):
    """The same over S3's protocol, with the bucket on another server than AWS's."""
    bucket = f"logs-{os.getpid()}"
    made = requests.put(f"{sqs.endpoint}/{bucket}", timeout=10, headers={"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"})
    assert made.status_code == 200, made.text[:300]
    yard.configure(
        logs=LOGS,
        storage={"url": f"s3://{bucket}/some/prefix", "endpoint": sqs.endpoint, "region": "us-east-1"},
        dispatcher={"keep_remote_s": 0},
    )
    yard.start(1)
    job = submit(yard, "talker", printer(30, 0.1, size=5000))
    assert yard.api.wait_end(job, 30)["state"] == "succeeded"
    text = printed(30, size=5000)
    until("it is archived", lambda: log(yard, job).headers.get("x-yard-log-state") == "complete", 30)
    answer = log(yard, job)
    assert answer.headers["x-yard-log-source"] == "archive" and answer.text == text
    listing = requests.get(f"{sqs.endpoint}/{bucket}?list-type=2", timeout=10).text
    assert f"some/prefix/logs/{job}/1/" in listing and ".end.gz" in listing


@pytest.fixture
def mortal_head(ray_heads):
    """The first Ray head, which the test may kill: it is up again afterwards."""
    yield ray_heads[0]
    if not ray_heads[0].alive():
        ray_heads[0].start()


def test_a_dead_ray_head_takes_seconds_of_a_log_with_it(yard_ray, mortal_head):
    """The head is killed in the middle: the archive has the log but for its last seconds; the retry's follows it."""
    yard = yard_ray
    yard.configure(
        clusters=[yard.ray_cluster(0), yard.ray_cluster(1)],
        logs=LOGS,
        dispatcher={"unreachable_after_s": 1, "cluster_lost_grace_s": 10},
    )
    yard.start(1)
    assert yard.api.request("POST", "/v1/clusters/ray-b/drain").status_code == 200
    job = submit(yard, "talker", printer(150, 0.1))
    until("it has printed for a while", lambda: "line 60 " in log(yard, job).text, 60)
    seen = log(yard, job).text
    mortal_head.kill()
    assert yard.api.request("POST", "/v1/clusters/ray-b/resume").status_code == 200
    until("it is lost", lambda: yard.api.job(job)["attempts"][0].get("end") == "lost", 40)
    first = log(yard, job, "attempt=1&plain=true")
    assert first.headers["x-yard-log-source"] == "archive" and first.headers["x-yard-log-state"] in ("lost", "open")
    assert seen.startswith(first.text) or first.text.startswith(seen)
    missing = seen.count("\n") - first.text.count("\n")
    print(f"\na dead head took {max(missing, 0)} lines with it, that is {max(missing, 0) / 10:.1f} s")
    assert missing <= 50
    assert yard.api.wait_end(job, 60)["state"] == "succeeded"
    assert sealed(yard, job, 2).endswith(printed(150)[-300:])
    assert first.text[first.text.index("line 0 ") :] in printed(150), "Ray's own lines come first, then ours"


def test_following_adds_little_to_ray_s_own(yard_ray):
    """From the moment a line is printed on Ray to the moment it is here, by Ray's own interface and by ours."""
    yard = yard_ray
    yard.configure(clusters=[yard.ray_cluster(0)], logs=LOGS)
    [process] = yard.start(1)
    head = yard.ray[0]
    script = "import time\nfor i in range(25):\n    print(f'at {time.time()}', flush=True)\n    time.sleep(0.43)"
    job = submit(yard, "clock", shlex.join(["python3", "-c", script]))
    yard.api.wait_state(job, "running", timeout_s=60)
    until("it prints", lambda: "at " in log(yard, job).text, 60)
    name = yard.api.job(job)["attempts"][0]["remote_name"]

    def lags_of_ray() -> list[float]:
        """By polling its interface as often as it may be asked, as its own client does once a second."""
        lags, seen = [], 0
        while yard.api.job(job)["state"] == "running":
            status, text = head.request("GET", f"/api/jobs/{name}/logs")
            now = time.time()
            lines = [line for line in str(text).replace("\\n", "\n").split("\n") if line.startswith("at ") and len(line) > 15]
            lags += [now - float(line[3:].strip('"} ')) for line in lines[seen:]]
            seen = len(lines)
            time.sleep(0.05)
        return lags[1:]

    def lags_of_ours() -> list[float]:
        lags = []
        path = f"/v1/jobs/{job}/logs?follow=true&attempt=1"
        # A client of its own: this is a thread of its own.
        api = yard.api.with_token(yard.api.token)
        with api.request("GET", path, at=process.url, stream=True, timeout=60) as answer:
            for line in answer.iter_lines(chunk_size=1):
                if line.startswith(b"at "):
                    lags.append(time.time() - float(line[3:]))
        return lags

    with ThreadPoolExecutor() as pool:
        theirs, ours = pool.submit(lags_of_ray), pool.submit(lags_of_ours)
        theirs, ours = theirs.result(), ours.result()
    print(f"\nmedian lag of a line: Ray polled all the time {median(theirs):.3f} s, followed here {median(ours):.3f} s")
    assert median(ours) - median(theirs) < 1, (theirs, ours)
