#!/usr/bin/env python3
"""Starts every kind of server for real and checks each: one line per check.

    python3 tests/env/selftest.py
"""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from env import process, provision, servers  # noqa: E402
from env.cache import Unavailable  # noqa: E402
from kube.kuberay import KubeRay  # noqa: E402

passed = failed = skipped = 0


def main() -> int:
    use_venv()
    process.end_on_signals()
    for name, checks in [
        ("MariaDB", check_mariadb),
        ("MySQL", check_mysql),
        ("ministack", check_ministack),
        ("Ray", check_ray),
        ("KubeRay", check_kuberay),
        ("clean-up", check_cleanup),
    ]:
        run(name, checks)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def use_venv() -> None:
    """Start again in the venv, which has the clients that the checks need."""
    python = str(provision.python())
    if sys.executable != python:
        os.execv(python, [python, *sys.argv])


def run(name: str, checks) -> None:
    """Print a line for each check that the generator yields, and its outcome."""
    global passed, failed, skipped
    began = time.monotonic()
    try:
        for what in checks():
            print(f"ok    {name}: {what} ({time.monotonic() - began:.1f} s)", flush=True)
            passed, began = passed + 1, time.monotonic()
    except Unavailable as reason:
        print(f"skip  {name}: {reason}", flush=True)
        skipped += 1
    except Exception as error:
        print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
        failed += 1


def check_mariadb():
    yield from check_database(servers.MariaDb(), "10.")


def check_mysql():
    yield from check_database(servers.MySql(), "9.")


def check_database(server, version: str):
    with server:
        yield f"starts at port {server.port}"
        found = query(server, "SELECT VERSION(), @@innodb_flush_log_at_trx_commit")[0]
        assert found[0].startswith(version) and found[1] == 1, found
        yield f"SELECT answers; version {found[0]}, full durability"
        query(server, "CREATE DATABASE other")
        query(server, "CREATE TABLE other.t (id INT PRIMARY KEY)")
        query(server, "INSERT INTO other.t VALUES (42)")
        yield "the user may create databases"
        assert query(server, "SELECT id FROM other.t FOR UPDATE SKIP LOCKED") == ((42,),)
        yield "knows SKIP LOCKED"
        server.restart()
        assert query(server, "SELECT id FROM other.t") == ((42,),)
        yield "a restart keeps data, port and password"
        server.kill()
        assert not server.alive() and server.start()
        assert query(server, "SELECT id FROM other.t") == ((42,),)
        yield "a crash keeps data"


def query(server, statement: str):
    """Run one statement as the user `yard`; its rows."""
    import pymysql

    connection = pymysql.connect(
        host=process.HOST, port=server.port, user="yard", password=server.password, autocommit=True
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def check_ministack():
    with servers.MiniStack() as server:
        yield f"starts at port {server.port}"
        sqs = sqs_client(server)
        url = sqs.create_queue(QueueName="q")["QueueUrl"]
        assert url.startswith(server.endpoint), url
        sqs.send_message(QueueUrl=url, MessageBody="hello")
        received = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
        assert [m["Body"] for m in received] == ["hello"]
        yield "sends and receives a message"
        sqs.delete_message(QueueUrl=url, ReceiptHandle=received[0]["ReceiptHandle"])
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert counts["ApproximateNumberOfMessages"] == counts["ApproximateNumberOfMessagesNotVisible"] == "0"
        yield "deletes a message"
        sqs.send_message(QueueUrl=url, MessageBody="kept")
        server.restart()
        kept = sqs_client(server).receive_message(QueueUrl=url)["Messages"]
        assert [m["Body"] for m in kept] == ["kept"]
        yield "a restart keeps queues and messages"


def sqs_client(server):
    import boto3

    return boto3.client(
        "sqs",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def check_ray():
    with servers.RayHead("a", num_cpus=4) as first:
        yield f"a head starts at port {first.port}"
        assert process.http("GET", f"{first.address}/api/version")[0] == 401
        assert process.http("GET", f"{first.address}/api/version", token="wrong")[0] == 403
        status, text = first.request("GET", "/api/version")
        assert status == 200, text
        yield f"refuses without its token, answers with it: {json.loads(text)['ray_version']}"
        with servers.RayHead("b", num_cpus=2, num_gpus=1, resources={"fast": 2}) as second:
            yield "a second head starts beside it"
            assert second.request("GET", "/api/version")[0] == 200
            assert process.http("GET", f"{second.address}/api/version", token=first.token)[0] == 403
            yield "a head refuses the other's token"
            for head in (first, second):
                assert (state := run_job(head)) == "SUCCEEDED", state
            yield "a job submitted by REST succeeds on each"
        first.restart()
        assert first.request("GET", "/api/jobs/")[1] == "[]"
        yield "a restarted head has the same address and token, and no jobs"


def run_job(head) -> str:
    """Submit a job that uses the cluster, and wait for its last state."""
    code = "import ray; ray.init(); print(ray.get(ray.remote(lambda: 6 * 7).remote()))"
    status, text = head.request("POST", "/api/jobs/", {"entrypoint": f'python -c "{code}"', "submission_id": "job-1"})
    assert status == 200, text

    def state() -> str:
        return json.loads(head.request("GET", "/api/jobs/job-1")[1])["status"]

    process.wait_until(lambda: state() not in ("PENDING", "RUNNING"), 90, pause_s=0.25)
    return state()


def check_kuberay():
    with KubeRay() as kube:
        yield f"an API server starts at port {kube.cluster.api.port}, the operator beside it"
        assert kube.client.get("/apis/ray.io/v1/rayjobs")["items"] == []
        yield "it has KubeRay's CRDs"
        for server in (kube.cluster.api, kube.cluster.etcd):
            server.restart()
        process.wait_until(kube.cluster.api.is_ready, 60)
        kube.cluster.namespace("kept")
        yield "etcd and the API server may be restarted"
        revision = kube.cluster.etcd.compact()
        assert revision > 1
        yield f"etcd forgets what was before revision {revision}"


def check_cleanup():
    import subprocess

    # A process that starts servers and is killed: none of them may outlive it.
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})\n"
        "from env import servers\n"
        "s = servers.RayHead('x', 1).start()\n"
        "print(s._mark, s._process.pid, flush=True); input()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    mark, guard_pid = owner.stdout.readline().split()
    from env import guard

    before = guard.processes(mark, int(guard_pid))
    owner.kill()
    owner.wait()
    assert before and process.wait_until(lambda: not guard.processes(mark, int(guard_pid)), 10)
    yield f"all {len(before)} processes of a head end when its owner is killed"


if __name__ == "__main__":
    sys.exit(main())
