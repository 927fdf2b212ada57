"""The Kubernetes that the other tests stand on: a RayJob goes through the real operator and runs real Python."""

import json
import time

import pytest

from support.rayjobs import RayJobs, document
from support.wait import until


@pytest.fixture
def jobs(kuberay):
    """The RayJobs of a namespace, which is empty when the test begins."""
    jobs = RayJobs(kuberay.client, kuberay.cluster.namespace("env"))
    yield jobs
    jobs.clear()


def test_succeeded(kuberay, jobs):
    jobs.apply(document("good", "python -c 'import ray; ray.init(); print(ray.get(ray.remote(lambda: 6 * 7).remote()))'"))
    status = jobs.wait("good")
    assert (status["jobStatus"], status["jobDeploymentStatus"]) == ("SUCCEEDED", "Complete")
    code, log = kuberay.head.request("GET", f"/api/jobs/{status['jobId']}/logs")
    assert code == 200 and "42" in json.loads(log)["logs"].split()
    # With the job its cluster goes: the operator deletes it, the garbage collector and the kubelet its pods.
    until("the Ray cluster is gone", lambda: not jobs.names("rayclusters") and not jobs.pods(), 30)


def test_failed(jobs):
    jobs.apply(document("bad", "python -c 'import sys; sys.exit(7)'"))
    status = jobs.wait("bad")
    assert (status["jobStatus"], status["jobDeploymentStatus"], status["reason"]) == ("FAILED", "Failed", "AppFailed")
    assert "exit code 7" in status["message"]


def test_stopped(kuberay, jobs):
    """A stop at Ray ends as Complete; only `jobStatus` says that it was no success."""
    jobs.apply(document("long", "python -c 'import time; time.sleep(600)'"))
    until("it runs", lambda: jobs.status("long").get("jobStatus") == "RUNNING", 60)
    # By the way that the driver has too: the API server's service proxy.
    [service] = jobs.services()
    path = f"/api/v1/namespaces/env/services/{service}:dashboard/proxy/api/jobs/{jobs.status('long')['jobId']}/stop"
    assert kuberay.client.create(path, {}) == {"stopped": True}
    status = jobs.wait("long")
    assert (status["jobStatus"], status["jobDeploymentStatus"]) == ("STOPPED", "Complete")


def test_deleted_while_it_runs(kuberay, jobs):
    """The operator asks Ray to stop, then everything that the RayJob made goes."""
    jobs.apply(document("gone", "python -c 'import time; time.sleep(600)'"))
    until("it runs", lambda: jobs.status("gone").get("jobStatus") == "RUNNING", 60)
    ray_job = jobs.status("gone")["jobId"]
    jobs.delete("gone")
    until("the RayJob is gone", lambda: "gone" not in jobs.names(), 30)
    until("Ray has stopped it", lambda: '"STOPPED"' in kuberay.head.request("GET", f"/api/jobs/{ray_job}")[1], 30)
    until("its pods are gone", lambda: not jobs.pods() and not jobs.services(), 30)


def test_a_head_of_its_own_ends_with_its_pod(jobs, folder):
    """OOMKilled takes the running command with it."""
    beat = folder / "beat"
    own = {"yard.test/dashboard": "own"}
    jobs.apply(document("own", f"sh -c 'while :; do date >>{beat}; sleep 0.2; done'", annotations=own))
    until("its command runs", beat.exists, 90)
    [pod] = jobs.pods(node_type="head")
    path = f"/api/v1/namespaces/env/pods/{pod['metadata']['name']}"
    jobs.client.patch(path, {"metadata": {"annotations": {"yard.test/fail": "OOMKilled"}}})

    def still() -> bool:
        size = beat.stat().st_size
        time.sleep(1)  # five of its beats
        return beat.stat().st_size == size

    until("its command has ended", still, 30)


@pytest.mark.parametrize(("entrypoint", "ended"), [("echo submitted", "SUCCEEDED"), ("exit 3", "FAILED")])
def test_a_submitter(jobs, entrypoint, ended):
    """K8sJobMode: the operator makes a Job whose pod runs `ray job submit` for real."""
    jobs.apply(document("submitted", entrypoint, submissionMode="K8sJobMode"))
    status = jobs.wait("submitted", 90)
    assert status["jobStatus"] == ended, status


@pytest.mark.parametrize(
    ("fail", "reason"),
    [("ImagePullBackOff", "ImagePullBackOff"), ("OOMKilled", "OOMKilled")],
)
def test_a_pod_that_fails(jobs, fail, reason):
    jobs.apply(document("ill", "sleep 600", annotations={"yard.test/fail": fail}))

    def reasons() -> set:
        found = set()
        for pod in jobs.pods():
            for container in pod["status"].get("containerStatuses", []):
                states = [*container.get("state", {}).values(), *container.get("lastState", {}).values()]
                found |= {state.get("reason") for state in states}
        return found

    until("the pod says why", lambda: reason in reasons(), 60)


def test_no_node_fits(kuberay, jobs):
    jobs.apply(document("large", "true", cpu="1000"))

    def message() -> str:
        conditions = [c for pod in jobs.pods() for c in pod["status"].get("conditions", [])]
        return next((c.get("message", "") for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"), "")

    until("the pod says why", lambda: "3 Insufficient cpu" in message(), 60)
    events = lambda: kuberay.client.get("/api/v1/namespaces/env/events")["items"]  # noqa: E731
    until("an event says it too", lambda: "FailedScheduling" in {event["reason"] for event in events()})


def test_logs_of_a_container(kuberay, jobs):
    jobs.apply(document("said", "sleep 600", annotations={"yard.test/log": "hello from the head"}))
    until("its head runs", lambda: any(pod["status"].get("phase") == "Running" for pod in jobs.pods()), 60)
    [pod] = jobs.pods(node_type="head")
    log = kuberay.client.get(f"/api/v1/namespaces/env/pods/{pod['metadata']['name']}/log?container=ray-head")
    assert log == "hello from the head\n"

