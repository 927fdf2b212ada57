"""The commands of `yard` end to end: tables for people, `--json` for programs, exit codes for scripts."""

import json
import subprocess

import pytest

from support import invariants
from support.jobs import Job
from support.wait import until


@pytest.fixture
def shell(yard):
    """Runs `yard` against one process with all roles; gives exit code, standard output and error."""
    yard.configure(teams=[{"id": "ads", "quota": {"cpu": 8}}])
    [process] = yard.start(1)
    yard.environment["YARD_SERVER"] = process.url

    def run(*arguments: str, **kwargs) -> tuple[int, str, str]:
        done = yard.run(*arguments, check=False, **kwargs)
        return done.returncode, done.stdout, done.stderr

    run.yard = yard
    return run


def as_json(shell, *arguments: str):
    """The JSON that a command prints; it must have worked."""
    code, out, err = shell("--json", *arguments)
    assert code == 0, f"{arguments}: exit {code}: {err}"
    return json.loads(out)


def test_a_job_from_submit_to_its_end(shell):
    """By options and by a document; wait, get, history, logs, list, receipt agree."""
    submit = ["submit", "--team", "ads", "--key", "k1", "--name", "train", "--cpu", "1"]
    made = as_json(shell, *submit, "--", "echo", "hello from the shell")
    job = made["id"]
    assert made["created"] is True
    assert as_json(shell, *submit, "--", "echo", "hello from the shell")["id"] == job, "the same key again"
    assert shell("wait", job, "--timeout", "20")[0] == 0
    shown = as_json(shell, "get", job)
    assert (shown["state"], shown["team"], shown["key"], shown["name"]) == ("succeeded", "ads", "k1", "train")
    assert as_json(shell, "history", job)[-1]["event"] == "succeeded"
    assert shell("logs", job)[1] == "hello from the shell\n"
    assert [row["id"] for row in as_json(shell, "list", "--team", "ads")["jobs"]] == [job]
    assert as_json(shell, "receipt", "ads", "k1")["job"] == job
    document = shell.yard.folder / "job.json"
    document.write_text(json.dumps(Job("ads", "k2", 0.1).document(shell.yard.log.path)))
    second = as_json(shell, "submit", str(document))["id"]
    third = as_json_input(shell, Job("ads", "k3", 0.1).document(shell.yard.log.path))
    assert shell("wait", second, third, "--timeout", "20")[0] == 0
    invariants.check_all(shell.yard, shell.yard.log.runs() + [echo_run(shell.yard, job)])


def as_json_input(shell, document: dict) -> str:
    """Submits by standard input; the job's id."""
    code, out, err = shell("submit", "-", "--json", input=json.dumps(document))
    assert code == 0, err
    return json.loads(out)["id"]


def echo_run(yard, job: str):
    """The job whose command did not log itself, as its folder at the cluster shows it."""
    from support.evidence import Run

    name = f"yard-{job.replace('-', '')}-1"
    assert (yard.folder / "clusters" / "local" / name / "exit").exists()
    return Run(name, "ads/k1", "local", 0, 1, "end-0")


def test_tables_are_for_people(shell):
    """Every listing has its row, and says it in words and aligned columns."""
    yard = shell.yard
    job = yard.api.submitted(Job("ads", "shown", 0.1).document(yard.log.path))
    yard.api.wait_end(job)
    for arguments, words in [
        (("list",), [job[:8], "ads", "succeeded"]),
        (("get", job), [job, "succeeded", "shown"]),
        (("history", job), ["accepted", "running", "succeeded"]),
        (("receipt", "ads", "shown"), ["accepted", job]),
        (("teams",), ["ads", "8"]),
        (("clusters",), ["local", "process", "ready"]),
        (("audit",), ["exact"]),
    ]:
        code, out, err = shell(*arguments)
        assert code == 0, err
        missing = [word for word in words if word not in out]
        assert not missing, f"{arguments}: {missing} not in\n{out}"


def test_exit_codes_say_how_it_went(shell):
    """0 to 7 as documented in `yard --help`."""
    yard = shell.yard

    def ended(key: str, **keys) -> str:
        job = yard.api.submitted(Job("ads", key, **keys).document(yard.log.path))
        yard.api.wait_end(job)
        return job

    failed = ended("failed", seconds=0.1, outcome="fail")
    assert shell("wait", failed)[0] == 1
    assert shell("submit", "--team", "ads", "--wait", "--", "false")[0] == 1
    assert shell("list", "--limit", "0")[0] == 2
    assert shell("submit", "--team", "nobody", "--", "true")[0] == 3
    code, _, err = shell("submit", "--team", "ads", "--key", "failed", "--", "something else")
    assert code == 3 and failed in err, err
    assert shell("get", "01900000-0000-7000-8000-000000000000")[0] == 4
    assert shell("receipt", "ads", "never")[0] == 4
    assert shell("drain", "atlantis")[0] == 4
    assert shell("list", "--server", "http://127.0.0.1:9")[0] == 5
    long = yard.api.submitted(Job("ads", "long", 60).document(yard.log.path))
    assert shell("wait", long, "--timeout", "0.5")[0] == 7
    assert shell("stop", long, "--reason", "enough")[0] == 0
    assert shell("wait", long, "--timeout", "20")[0] == 6
    wishes = [line for line in yard.api.history(long) if line["event"] == "stop_requested"]
    assert [line["data"]["reason"] for line in wishes] == ["enough"]


def test_errors_are_one_clear_message(shell):
    """No backtrace, no Rust debug text; every field of a rejected document is named."""
    code, out, err = shell("submit", "--team", "ads", "--cpu", "9999", "--label", "region=mars", "--", "true")
    assert code == 3 and out == ""
    assert "clusters" in err and "resources.cpu" in err, err
    assert "panicked" not in err and "Err(" not in err
    code, _, err = shell("list", "--server", "http://127.0.0.1:9")
    assert "can't reach http://127.0.0.1:9" in err and len(err.strip().splitlines()) == 1


def test_with_json_errors_are_problem_documents(shell):
    """The server's own, or one of the same form; each on one line, with the exit code beside it."""

    def problem(*arguments: str) -> dict:
        code, out, err = shell("--json", *arguments)
        [line] = err.splitlines()
        document = json.loads(line)
        assert out in ("", "[]\n") and document["exit_code"] == code != 0
        assert document["type"] == f"urn:yard:problem:{document['code']}" and document["title"], document
        return document

    refused = problem("submit", "--team", "ads", "--cpu", "9999", "--label", "region=mars", "--", "true")
    assert (refused["code"], refused["status"]) == ("rejected", 422)
    assert {error["field"] for error in refused["errors"]} == {"clusters", "resources.cpu"}
    for command in ("get", "explain", "history", "logs", "stop", "wait"):
        assert problem(command, "ads/nothing")["exit_code"] == 4, command
    assert problem("list", "--server", "http://127.0.0.1:9")["code"] == "unreachable"
    assert "no-such-file" in problem("submit", "no-such-file")["detail"]
    assert problem("get")["code"] == "usage", "the command line itself"
    assert "no-such-file" in problem("simulate", "--workload", "no-such-file")["detail"]


def test_logs_are_followed_to_the_end(shell):
    """`logs -f` prints as it comes, through a retry, and ends with the job."""
    yard = shell.yard
    job = yard.api.submitted(Job("ads", "twice", 4, "fail-until-2", max_retries=1).document(yard.log.path))
    code, out, err = shell("logs", "-f", job, timeout_s=60)
    assert code == 0, err
    greetings = [line for line in out.splitlines() if line.startswith("hello")]
    assert greetings == ["hello from ads/twice attempt 1", "hello from ads/twice attempt 2"], out


def test_a_closed_pipe_is_no_error(shell):
    """`yard logs | head` ends quietly."""
    yard = shell.yard
    job = yard.api.submitted(Job("ads", "long-log", entrypoint="seq 1 200000").document(yard.log.path))
    yard.api.wait_end(job)
    pipe = subprocess.Popen(
        [str(yard.binary), "logs", job], env=yard.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert pipe.stdout.readline() == b"1\n"
    pipe.stdout.close()
    error = pipe.stderr.read().decode()
    pipe.wait(20)
    assert "panicked" not in error and "error" not in error.lower(), error


def test_drain_and_resume(shell):
    """Drained it takes nothing; resumed it does."""
    yard = shell.yard
    assert as_json(shell, "drain", "local")["switch"] == "drained"
    job = yard.api.submitted(Job("ads", "patient", 0.1).document(yard.log.path))
    until("it waits for a cluster", lambda: "local" in yard.api.job(job).get("waiting", {}).get("clusters", {}))
    assert as_json(shell, "resume", "local")["switch"] == "open"
    assert yard.api.wait_end(job)["state"] == "succeeded"


def test_help_says_what_there_is(binary):
    """Every command is in the help, and the exit codes."""
    done = subprocess.run([str(binary), "--help"], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0
    commands = "serve migrate check-config dev submit list get history logs stop wait receipt teams clusters drain resume"
    assert [word for word in commands.split() if f"\n  {word}" not in done.stdout] == []
    assert "Exit codes:" in done.stdout
