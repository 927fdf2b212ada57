"""The Ray Jobs API as Ray's own client sees it: one script against Ray itself and against us, outcomes compared."""

import asyncio
import os
import re
import subprocess
import uuid
from pathlib import Path

import pytest
from env import provision

from support.wait import until

FINAL = {"SUCCEEDED", "FAILED", "STOPPED"}

# What differs on purpose, as (scenario, field): why. docs/ray-api.md says the same.
DIFFERENCES = {
    ("*", "driver_agent_http_address"): "a process on a node of one cluster, which nobody can reach through us",
    ("*", "driver_node_id"): "as above",
}


class Target:
    """A server to run the script against."""

    def __init__(self, address: str, token: str | None = None):
        from ray.job_submission import JobSubmissionClient

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.address, self.token = address, token
        self.client = JobSubmissionClient(address, headers=headers)
        self.run = uuid.uuid4().hex[:8]

    def id(self, name: str) -> str:
        """The submission id of a scenario in this run."""
        return f"cmp-{self.run}-{name}"

    def plain(self, text: str) -> str:
        """A text without what differs from run to run."""
        return text.replace(f"cmp-{self.run}-", "")

    def ended(self, job: str, timeout_s: float = 60) -> dict:
        """The details of a job that has ended."""
        found = until(f"{job} has ended", lambda: self._final(job), timeout_s)
        details = found.model_dump()
        assert details.pop("start_time") <= details.pop("end_time")
        details["submission_id"] = self.plain(details["submission_id"])
        # Ray's own lines in its log have times and names.
        own = re.compile(r" -- |^Running entrypoint for job ")
        said = [line for line in details["message"].splitlines() if not own.search(line)]
        details["message"] = self.plain("\n".join(said))
        for field in ("driver_agent_http_address", "driver_node_id"):
            details[field] = details[field] is not None
        return {key: str(value) if key in ("status", "type") else value for key, value in details.items()}

    def _final(self, job: str):
        details = self.client.get_job_info(job)
        return details if details.status.value in FINAL else None

    def running(self, job: str) -> None:
        """Waits until the job runs."""
        until(f"{job} runs", lambda: self.client.get_job_status(job).value == "RUNNING", 60)

    def tail(self, job: str) -> str:
        """All that the tail says until it ends by itself."""

        async def read() -> str:
            return "".join([lines async for lines in self.client.tail_job_logs(job)])

        return asyncio.run(asyncio.wait_for(read(), 90))

    def cli(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
        """Ray's command line, as its user has it."""
        command = [str(provision.python()), "-m", "ray.scripts.scripts", "job", *arguments]
        environment = {**os.environ, "RAY_API_SERVER_ADDRESS": self.address, "RAY_USAGE_STATS_ENABLED": "0"}
        if self.token:
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120)


def refusal(target: Target, call) -> dict:
    """Status and last sentence of a refusal."""
    with pytest.raises(RuntimeError) as caught:
        call()
    text = target.plain(str(caught.value))
    status = int(re.match(r"Request failed with status code (\d+)", text)[1])
    last = [line for line in text.splitlines() if re.search("[a-z]", line)][-1]
    last = re.sub(r"^(Request failed with status code \d+: )?(\w+Error: )?", "", last)
    return {"status": status, "says": last.rstrip(". ")}


def output(log: str) -> list[str]:
    """The lines that a job itself has printed."""
    return [line for line in log.splitlines() if line.startswith("out:")]


def project(folder: Path) -> Path:
    """A working directory with a module in it, and a module for py_modules beside it."""
    work = folder / "project"
    (work / "inside").mkdir(parents=True, exist_ok=True)
    (work / "inside" / "__init__.py").write_text("WORD = 'from working_dir'\n")
    (work / "main.py").write_text("import inside\nprint('out:', inside.WORD)\n")
    module = folder / "modules" / "beside"
    module.mkdir(parents=True, exist_ok=True)
    (module / "__init__.py").write_text("WORD = 'from py_modules'\n")
    return work


def succeeds(t: Target, folder: Path) -> dict:
    """A job with variables and notes."""
    env = {"env_vars": {"GREETING": "ä hello"}}
    command = "echo out: $GREETING; sleep 1; echo out: bye"
    job = t.client.submit_job(
        entrypoint=command, submission_id=t.id("success"), runtime_env=env, metadata={"who": "me"}
    )
    tailed = t.tail(job)
    logs = t.client.get_job_logs(job)
    return {"id": t.plain(job), **t.ended(job), "tailed": output(tailed), "logs": output(logs)}


def fails(t: Target, folder: Path) -> dict:
    """A command that ends with an error."""
    job = t.client.submit_job(entrypoint="echo out: oh; exit 3", submission_id=t.id("failure"))
    return t.ended(job)


def is_stopped(t: Target, folder: Path) -> dict:
    """A stop while it runs, and again afterwards; delete before and after."""
    job = t.client.submit_job(entrypoint="sleep 60", submission_id=t.id("stop"))
    t.running(job)
    early = refusal(t, lambda: t.client.delete_job(job))
    answer = t.client.stop_job(job)
    details = t.ended(job)
    again = until("the job's own process is gone", lambda: [t.client.stop_job(job)] == [False], 30)
    deleted = t.client.delete_job(job)
    gone = refusal(t, lambda: t.client.get_job_info(job))
    return {**details, "early": early, "stopped": answer, "again": again, "deleted": deleted, "gone": gone}


def is_unknown(t: Target, folder: Path) -> dict:
    """Every call with an id that isn't there."""
    calls = ["get_job_info", "get_job_status", "stop_job", "delete_job", "get_job_logs"]
    answers = {name: refusal(t, lambda name=name: getattr(t.client, name)("no-such-job")) for name in calls}
    try:
        t.tail("no-such-job")
    except Exception as error:  # aiohttp's, whatever its class
        answers["tail"] = getattr(error, "status", str(error))
    return answers


def is_duplicate(t: Target, folder: Path) -> dict:
    """One id twice, with the same command and with another."""
    job = t.client.submit_job(entrypoint="true", submission_id=t.id("twice"))
    answers = {}
    for name, command in (("same", "true"), ("other", "false")):
        submit = lambda command=command: t.client.submit_job(entrypoint=command, submission_id=job)  # noqa: E731
        answers[name] = refusal(t, submit)
    return {**answers, **t.ended(job)}


def has_packages(t: Target, folder: Path) -> dict:
    """A working directory and a module beside it, both uploaded by the client."""
    work = project(folder)
    env = {"working_dir": str(work), "py_modules": [str(folder / "modules" / "beside")]}
    command = "python main.py && python -c \"import beside; print('out:', beside.WORD)\""
    job = t.client.submit_job(entrypoint=command, submission_id=t.id("packages"), runtime_env=env)
    details = t.ended(job)
    return {**details, "logs": output(t.client.get_job_logs(job))}


def lists(t: Target, folder: Path) -> dict:
    """The list has what was submitted, with the fields of the details."""
    mine = [job for job in t.client.list_jobs() if t.run in str(job.submission_id)]
    # Ray sometimes writes a job back that was deleted just now (docs/facts/ray-2.60.md).
    there = [job for job in mine if job.entrypoint != "Entrypoint not found."]
    return {t.plain(job.submission_id): str(job.status) for job in there}


def malformed(t: Target, folder: Path) -> dict:
    """What no client of Ray's sends."""
    answers = {}
    for name, body in {
        "entrypoint": {"entrypoint": 5},
        "missing": {},
        "unknown": {"entrypoint": "true", "nonsense": 1},
        "metadata": {"entrypoint": "true", "metadata": {"a": 1}},
    }.items():
        answer = t.client._do_request("POST", "/api/jobs/", json_data=body)
        last = answer.text.strip().splitlines()[-1]
        answers[name] = (answer.status_code, last)
    return answers


SCENARIOS = {
    "success": succeeds,
    "failure": fails,
    "stop": is_stopped,
    "unknown": is_unknown,
    "duplicate": is_duplicate,
    "packages": has_packages,
    "list": lists,
    "malformed": malformed,
}


def differences(ray: dict, ours: dict) -> dict:
    """Every field of every scenario in which the two differ."""
    found = {}
    for scenario in SCENARIOS:
        for field in sorted(ray[scenario].keys() | ours[scenario].keys()):
            theirs, mine = ray[scenario].get(field), ours[scenario].get(field)
            if theirs != mine and not {(scenario, field), ("*", field)} & DIFFERENCES.keys():
                found[scenario, field] = {"ray": theirs, "us": mine}
    return found


@pytest.fixture
def ours(yard_ray):
    """An installation over both Ray heads."""
    yard = yard_ray
    yard.configure(
        clusters=[yard.ray_cluster(0, labels={"zone": "a"}), yard.ray_cluster(1, labels={"zone": "b"})],
        ray_api={"default_team": "ads", "tail_poll_ms": 100},
    )
    yard.start(1)
    yard.wait_clusters()
    return yard


@pytest.fixture
def local(yard):
    """An installation without Ray."""
    yard.configure(ray_api={"default_team": "ads", "tail_poll_ms": 100})
    yard.start(1)
    return yard


def test_the_same_script_has_the_same_outcome_as_on_ray_itself(ours, ray_heads, folder):
    """Every method of the client, field by field; what differs is listed above."""
    results = []
    for target in (Target(ray_heads[0].address, ray_heads[0].token), Target(ours.processes[0].url, ours.api.token)):
        results.append({name: run(target, folder) for name, run in SCENARIOS.items()})
    assert differences(*results) == {}
    assert results[1]["packages"]["logs"] == ["out: from working_dir", "out: from py_modules"]
    # What differs is shown to differ, so that the list does not outlive its reasons.
    ray, us = results
    assert ray["success"]["driver_agent_http_address"] != us["success"]["driver_agent_http_address"]


def test_a_label_selector_chooses_the_cluster_or_is_refused(ours):
    """Never passed over in silence."""
    target = Target(ours.processes[0].url, ours.api.token)
    job = target.client.submit_job(entrypoint="true", entrypoint_label_selector={"zone": "b"})
    assert job.startswith("raysubmit_") and len(job) == 26
    target.ended(job)
    native = next(j for j in ours.api.get("/v1/jobs")["jobs"] if j["key"] == job)
    assert ours.api.job(native["id"])["attempts"][0]["cluster"] == "ray-b"
    submit = target.client.submit_job
    for selector in ({"ray.io/accelerator-type": "H100"}, {"zone": "!a"}):
        refused = refusal(target, lambda selector=selector: submit(entrypoint="true", entrypoint_label_selector=selector))
        assert refused["status"] == 400 and "entrypoint_label_selector" in refused["says"]


def test_a_job_that_moves_to_another_cluster_finds_its_packages_there(ours, folder):
    """The first cluster is lost while it runs; the second is brought the package before the launch."""
    target, head = Target(ours.processes[0].url, ours.api.token), ours.ray[0]
    work = project(folder)
    (work / "main.py").write_text("import inside, os, time\nprint('out:', inside.WORD, flush=True)\n"
                                  "time.sleep(120 if os.environ['YARD_ATTEMPT'] == '1' else 0)\n")
    try:
        job = target.client.submit_job(
            entrypoint="python main.py",
            runtime_env={"working_dir": str(work)},
            metadata={"yard.prefer_labels": "zone=a", "yard.max_retries": "1"},
        )
        target.running(job)
        [native] = [j for j in ours.api.get("/v1/jobs")["jobs"] if j["key"] == job]
        assert ours.api.job(native["id"])["attempts"][0]["cluster"] == "ray-a"
        head.kill()
        assert target.ended(job, 90)["status"] == "SUCCEEDED"
        assert [a["cluster"] for a in ours.api.job(native["id"])["attempts"]] == ["ray-a", "ray-b"]
        assert output(target.client.get_job_logs(job)) == ["out: from working_dir"]
    finally:
        if not head.alive():
            head.start()


def test_the_command_line_works_without_ray_behind_it(local, folder):
    """Submit with a working directory, status, logs, list, stop, delete: on child processes of the host."""
    target, work = Target(local.processes[0].url, local.api.token), project(folder)
    done = target.cli("submit", "--submission-id", "first", "--working-dir", ".", "--", "python3", "main.py", cwd=work)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "out: from working_dir" in done.stdout and "Job 'first' succeeded" in done.stdout
    failed = target.cli("submit", "--submission-id", "second", "--", "sh", "-c", "exit 3")
    assert failed.returncode == 1 and "failed with exit code 3" in failed.stdout, failed.stdout + failed.stderr
    assert "Job 'first' succeeded" in target.cli("status", "first").stdout
    assert "out: from working_dir" in target.cli("logs", "first").stdout
    slow = target.cli("submit", "--submission-id", "third", "--no-wait", "--", "sleep", "60")
    assert slow.returncode == 0, slow.stdout + slow.stderr
    target.running("third")
    assert "was stopped" in target.cli("stop", "third").stdout
    listed = target.cli("list").stdout
    assert all(f"submission_id='{job}'" in listed for job in ("first", "second", "third")), listed
    assert "deleted successfully" in target.cli("delete", "first").stdout
    assert [j.submission_id for j in target.client.list_jobs()] == ["third", "second"]
    assert {j["key"] for j in local.api.get("/v1/jobs")["jobs"]} == {"first", "second", "third"}


def test_a_tail_waits_with_the_job_and_ends_with_it(local):
    """It says nothing while the job waits, and the reason is in the message meanwhile."""
    target = Target(local.processes[0].url, local.api.token)
    assert local.api.request("POST", "/v1/clusters/local/drain").status_code == 200
    job = target.client.submit_job(entrypoint="echo out: at last")
    until("the reason tells of the cluster", lambda: "local: " in target.client.get_job_info(job).message, 60)

    async def follow() -> str:
        async def read() -> str:
            return "".join([lines async for lines in target.client.tail_job_logs(job)])

        tail = asyncio.create_task(read())
        await asyncio.sleep(1)
        assert not tail.done()
        local.api.request("POST", "/v1/clusters/local/resume")
        return await asyncio.wait_for(tail, 30)

    assert asyncio.run(follow()) == "out: at last\n"
    assert target.client.get_job_status(job).value == "SUCCEEDED"


def test_settings_come_by_metadata_or_headers_and_unknown_ones_are_refused(local):
    """Team, priority, timeouts: the same as through the native API."""
    target = Target(local.processes[0].url, local.api.token)
    notes = {"yard.team": "ads", "yard.priority": "5", "yard.run_timeout_s": "77", "note": "mine"}
    job = target.client.submit_job(entrypoint="true", metadata=notes, entrypoint_num_cpus=2)
    assert target.ended(job)["metadata"] == {"note": "mine"}
    [native] = [local.api.job(j["id"]) for j in local.api.get("/v1/jobs")["jobs"] if j["key"] == job]
    assert (native["priority"], native["spec"]["timeouts"]["run_s"]) == (5, 77)
    assert native["spec"]["resources"]["cpu"] == 2
    submit = target.client.submit_job
    refused = refusal(target, lambda: submit(entrypoint="true", metadata={"yard.prio": "5"}))
    assert refused["status"] == 400 and "yard.priority" in refused["says"]
    refused = refusal(target, lambda: submit(entrypoint="true", entrypoint_num_gpus=1000))
    assert refused["status"] == 400 and "entrypoint_num_gpus" in refused["says"]


def test_a_package_that_is_not_here_fails_the_job_with_its_reason(local):
    """As on Ray: the submission is taken, the launch finds out."""
    target = Target(local.processes[0].url, local.api.token)
    job = target.client.submit_job(entrypoint="true", runtime_env={"working_dir": "gcs://_ray_pkg_0123.zip"})
    details = target.ended(job)
    assert details["status"] == "FAILED" and "gcs://_ray_pkg_0123.zip is not here" in details["message"]
