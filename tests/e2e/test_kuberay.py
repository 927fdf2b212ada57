"""The driver `kuberay` on a real API server, with the rights that are shipped: the real operator, real Python, and faults."""

import datetime
import itertools
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import requests

from kube import kubelet_rules
from support import invariants
from support.jobs import Job
from support.wait import always, until

FAKE = {"profile": "fake"}
PYTHON = "python -c 'import ray; ray.init(); print(ray.get(ray.remote(lambda: 6 * 7).remote()))'"


def configure(yard, target, dispatcher: dict | None = None, ray_api: dict | None = None, also: tuple = (), **keys) -> None:
    """The cluster with these keys, and others beside it. What has ended does not stay there; a machine under load is not called unreachable."""
    quiet = {"keep_remote_s": 1, "unreachable_after_s": 8, "cluster_lost_grace_s": 300}
    retry = {"max_infra_retries": 1, "backoff_initial_ms": 50}
    sections = {"dispatcher": {**quiet, **(dispatcher or {})}, "retry": retry, "ray_api": ray_api or {}}
    yard.configure(clusters=[target.section(**keys), *also], **sections)


def health(yard) -> dict:
    """What the API says of the cluster."""
    [cluster] = yard.api.get("/v1/clusters")["clusters"]
    return cluster


def until_ready(yard) -> None:
    until("the cluster is ready", lambda: health(yard)["health"] == "ready", 30)


def until_told(yard, *words: str, timeout_s: float = 30) -> str:
    """Until the cluster's own words have all of these in them."""

    def told() -> str | None:
        text = json.dumps(health(yard))
        return text if all(word in text for word in words) else None

    return until(f"the cluster says {words}", told, timeout_s)


def submit(yard, key: str, seconds: float | Path = 0.2, outcome: str = "ok", **keys) -> str:
    """A job whose command writes to the test's log."""
    return yard.api.submitted(Job("ads", key, seconds, outcome, **keys).document(yard.log.path))


def until_all_is_gone(target, timeout_s: float = 60) -> None:
    """Nothing of any attempt is left at the cluster."""

    def gone() -> bool:
        left = [target.jobs.names(), target.jobs.names("rayclusters"), target.jobs.pods(), target.jobs.services()]
        assert not any(left), left
        return True

    until("nothing is left at the cluster", gone, timeout_s)


def test_real_python_succeeds_fails_and_is_stopped(yard_kube, target):
    """One RayJob each, through the real operator to a real Ray head; then nothing of them is left."""
    yard = yard_kube
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    good = yard.api.submitted(Job("ads", "good", entrypoint=PYTHON).document(yard.log.path))
    bad, long = submit(yard, "bad", 0.2, "fail", max_retries=0), submit(yard, "long", 600)
    until("the long one runs", lambda: yard.log.started("ads/long"), 60)
    yard.api.wait_state(long, "running", timeout_s=30)
    assert yard.api.stop(long).status_code in (200, 202)
    ends = {job: yard.api.wait_end(job, 90) for job in (good, bad, long)}
    assert [ends[job]["state"] for job in (good, bad, long)] == ["succeeded", "failed", "stopped"]
    assert all(len(end["attempts"]) == 1 for end in ends.values())
    # The operator's own words, with the exit code that the command had.
    assert "exit code 3" in json.dumps(yard.api.history(bad))
    # The stop was asked of Ray: the command had its signal before its cluster went.
    assert yard.log.started("ads/long")[0].how == "stopped"
    assert "42" in yard.api.request("GET", f"/v1/jobs/{good}/logs").text
    until_all_is_gone(target)


def test_an_uploaded_package_is_fetched_by_its_ray_cluster(yard_kube, target):
    """Ray's own client uploads; the Ray cluster that is made for the job gets the same files by a link that ends."""
    from ray.job_submission import JobSubmissionClient

    yard = yard_kube
    yard.environment["YARD_TEST_LINK_KEY"] = "a key that is long enough for links"
    configure(yard, target)
    [process] = yard.start(1)
    process.kill()
    configure(yard, target, ray_api={"link_url": process.url, "link_key_env": "YARD_TEST_LINK_KEY"})
    process.start()
    yard.wait_ready()
    until_ready(yard)
    # Alone in its top folder, which Ray would strip of an archive that it fetched by URL.
    sources, module = yard.folder / "sources", yard.folder / "extra_module"
    (sources / "top").mkdir(parents=True)
    (sources / "top" / "main.py").write_text("import extra_module; print(extra_module.ANSWER)")
    module.mkdir()
    (module / "__init__.py").write_text("ANSWER = 6 * 7")
    client = JobSubmissionClient(
        process.url, headers={"Authorization": f"Bearer {yard.api.token}", "X-Yard-Team": "ads"}
    )
    environment = {"working_dir": str(sources), "py_modules": [str(module)]}
    client.submit_job(entrypoint="python top/main.py", submission_id="packed", runtime_env=environment)
    job = until("it was taken in", lambda: yard.api.get("/v1/jobs?team=ads")["jobs"])[0]["id"]
    [made] = until("its RayJob is there", lambda: target.admin.get(target.jobs.path())["items"], 30)
    urls = re.findall(r"http://[^\"]*/api/packages/link/[^\"]*", made["spec"]["runtimeEnvYAML"])
    assert len(urls) == 2 and "gcs://" not in made["spec"]["runtimeEnvYAML"], made["spec"]["runtimeEnvYAML"]
    end = yard.api.wait_end(job, 90)
    assert end["state"] == "succeeded", end
    assert yard.api.request("GET", f"/v1/jobs/{job}/logs").text.splitlines()[-1] == "42"
    # The link opens that package and nothing else, and nobody is told it.
    assert requests.get(urls[0], timeout=10).status_code == 200
    grants = [url.split("/")[-2] for url in urls]
    assert requests.get(urls[0].replace(grants[0], grants[1]), timeout=10).status_code == 403
    told = json.dumps([yard.api.job(job), yard.api.history(job)]) + process.log_text()
    assert not any(grant in told for grant in grants)


def source(yard, job: str, name: str):
    """The answer to who asks what these pods of a job print."""
    return yard.api.request("GET", f"/v1/jobs/{job}/logs", params={"source": name})


def test_what_head_and_workers_print(yard_kube, target):
    """Through the API server while the job runs, out of the archive when all is gone: its end, of so many pods."""
    yard = yard_kube
    configure(yard, target, pod_log_bytes_max=1024, pod_log_pods_max=2)
    yard.start(1)
    until_ready(yard)
    workers = {"workers": {"count": 3, "cpu": 1}}
    job = submit(yard, "three", 600, resources={"cpu": 4}, ray_cluster=workers)
    until("it runs", lambda: yard.log.started("ads/three"), 60)
    yard.api.wait_state(job, "running", timeout_s=30)
    [head] = target.jobs.pods(node_type="head")
    name = head["metadata"]["name"]
    told = source(yard, job, "head")
    assert told.text == f"--- pod {name}, container ray-head ---\nray-head of {name} has started\n"
    assert (told.headers["x-yard-log-source"], told.headers["x-yard-log-state"]) == ("cluster", "open")
    lines = [f"line {i} of the head" for i in range(200)]
    says = {"metadata": {"annotations": {"yard.test/log": "\n".join(lines)}}}
    target.admin.patch(f"/api/v1/namespaces/yard-jobs/pods/{name}", says)
    end = ("\n".join(lines) + "\n")[-1024:]
    whole = f"--- pod {name}, container ray-head: its last 1024 bytes ---\n{end}"
    until("its last bytes are told", lambda: source(yard, job, "head").text == whole, 60)
    names = sorted(pod["metadata"]["name"] for pod in target.jobs.pods(node_type="worker"))
    text = source(yard, job, "workers").text
    assert all(f"of {worker} has started" in text for worker in names[:2]) and names[2] not in text, text
    assert "1 more pods are not read: 2 is the limit" in text
    nothing = source(yard, job, "submitter")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "no_log"), nothing.text
    assert yard.api.stop(job).status_code in (200, 202)
    yard.api.wait_end(job, 60)
    until_all_is_gone(target)
    kept = source(yard, job, "head")
    assert (kept.text, kept.headers["x-yard-log-source"], kept.headers["x-yard-log-state"]) == (whole, "archive", "complete")
    assert source(yard, job, "workers").text == text
    assert yard.run("logs", "--source", "head", job, "--server", yard.processes[0].url).stdout == whole
    assert source(yard, job, "submitter").status_code == 404


def test_what_a_submitter_prints(yard_kube, target):
    """In K8sJobMode it is a pod of its own, and may be the only one that knows why nothing came of it."""
    yard = yard_kube
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    job = submit(yard, "submitted", ray_cluster={"profile": "submitter"})
    assert yard.api.wait_end(job, 90)["state"] == "succeeded"
    until_all_is_gone(target)
    text = source(yard, job, "submitter").text
    assert "container ray-job-submitter" in text and "submitted successfully" in text, text


def test_exactly_the_rights_that_are_shipped(yard_kube, target):
    """No call is refused, and no right is without a call: jobs that succeed, fail, are stopped, never get a head, and lose it."""
    yard = yard_kube
    configure(yard, target)
    before = len(target.asked())
    yard.start(1)
    until_ready(yard)
    jobs = [submit(yard, "good"), submit(yard, "bad", 0.2, "fail", max_retries=0), submit(yard, "long", 600)]
    ill = {"profile": "ill", "env": {"YARD_TEST_FAIL": "ImagePullBackOff"}}
    jobs.append(submit(yard, "ill", max_retries=0, ray_cluster=ill))
    beheaded = Job("ads", "beheaded", entrypoint="sleep 600", ray_cluster=FAKE)
    jobs.append(yard.api.submitted(beheaded.document(yard.log.path)))
    until("the long one runs", lambda: yard.log.started("ads/long"), 60)
    yard.api.stop(jobs[2])
    yard.api.wait_state(jobs[4], "running", timeout_s=30)
    # The operator makes no other head; the attempt is ended from here, its Ray cluster too.
    [head] = target.jobs.pods_of(jobs[4])
    target.admin.delete(f"/api/v1/namespaces/yard-jobs/pods/{head['metadata']['name']}")
    until("there is a second attempt", lambda: len(yard.api.job(jobs[4])["attempts"]) == 2, 60)
    assert yard.api.job(jobs[4])["attempts"][0]["end"] == "lost"
    yard.api.stop(jobs[4])
    for job in jobs:
        yard.api.wait_end(job, 90)
        yard.api.request("GET", f"/v1/jobs/{job}/logs")
    until_all_is_gone(target)
    asked = target.asked()[before:]
    refused = [call for call in asked if call["code"] in (401, 403)]
    assert refused == [], refused[:5]
    named = [call for call in asked if call["resource"]]
    used = {(call["verb"], call["group"], "/".join(filter(None, (call["resource"], call["part"])))) for call in named}
    path = "/apis/rbac.authorization.k8s.io/v1"
    role = target.admin.get(f"{path}/namespaces/yard-jobs/roles/yard-dispatcher")["rules"]
    role += target.admin.get(f"{path}/clusterroles/yard-capacity")["rules"]
    given = {(v, g, r) for rule in role for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    assert used <= given, f"asked for, though not in the manifests: {sorted(used - given)}"
    assert given <= used, f"in the manifests, though nobody asks for it: {sorted(given - used)}"


@pytest.mark.parametrize(
    ("kind", "verb", "resource"),
    [
        ("Role", "create", "rayjobs"),
        ("Role", "list", "rayjobs"),
        ("ClusterRole", "list", "nodes"),
        ("ClusterRole", "list", "pods"),
    ],
)
def test_a_missing_right_is_named(yard_kube, target, kind, verb, resource):
    """The cluster says the verb and the resource, nothing is lost, and all goes on once the right is there."""
    yard = yard_kube
    target.take_right(kind, verb, resource)
    configure(yard, target)
    yard.start(1)
    job = yard.api.submitted(Job("ads", "waits", entrypoint="true", ray_cluster=FAKE).document(yard.log.path))
    until_told(yard, f'cannot {verb} resource \\"{resource}\\"')
    assert yard.api.job(job)["state"] not in ("failed", "succeeded")
    target.prepare()
    until_ready(yard)
    assert yard.api.wait_end(job, 60)["state"] == "succeeded"


def test_the_api_server_is_restarted(yard_kube, target):
    """Jobs go on meanwhile; the cluster is unreachable, not lost, and each job ends in its one attempt."""
    yard = yard_kube
    configure(yard, target, {"unreachable_after_s": 1})
    yard.start(1)
    until_ready(yard)
    jobs = [submit(yard, f"j{i}", 8) for i in range(3)]
    until("they run", lambda: len(yard.log.runs()) == 3, 60)
    target.cluster.api.kill()
    until("the cluster is unreachable", lambda: health(yard)["health"] == "unreachable", 20)
    target.cluster.api.start()
    for job in jobs:
        ended = yard.api.wait_end(job, 90)
        assert ended["state"] == "succeeded" and len(ended["attempts"]) == 1, ended
    until_ready(yard)
    until_all_is_gone(target)
    invariants.check_all(yard)


def test_a_watch_that_is_cut_goes_on_where_it_was(yard_kube, target):
    yard = yard_kube
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    jobs = [submit(yard, f"j{i}", 4) for i in range(2)]
    until("they run", lambda: len(yard.log.runs()) == 2, 60)
    target.link.cut()
    until("they have ended meanwhile", lambda: all(run.end for run in yard.log.runs()), 30)
    target.link.mend()
    for job in jobs:
        assert yard.api.wait_end(job, 60)["state"] == "succeeded"
    invariants.check_all(yard)


def test_etcd_was_compacted_meanwhile(yard_kube, target):
    """After a compaction and a cut link the watch begins anew, and nothing is missed. (A 410 itself is seen further down.)"""
    yard = yard_kube
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    job = submit(yard, "gone", 2)
    until("it runs", lambda: yard.log.runs(), 60)
    target.link.cut()
    until("it has ended meanwhile", lambda: yard.log.runs()[0].end, 30)
    until("the operator knows it", lambda: "Complete" in json.dumps(target.admin.get(target.jobs.path())), 30)
    target.kuberay.restart_api()  # its own memory of versions goes too
    target.cluster.etcd.compact()
    target.link.mend()
    assert yard.api.wait_end(job, 60)["state"] == "succeeded"
    invariants.check_all(yard)


def test_a_watch_whose_past_is_forgotten_begins_anew(yard_kube, target):
    """410: the watch has had its time and goes on where it was, and etcd has been compacted. The API server must have no
    memory of its own for that (it would hand out what it remembers)."""
    yard, api = yard_kube, target.cluster.api
    api.extra = ["--watch-cache=false"]
    target.kuberay.restart_api()
    try:
        configure(yard, target, watch_timeout_s=5)
        [process] = yard.start(1)
        until_ready(yard)
        expired = lambda: yard.api.metric("yard_kuberay_watches_expired_total", process.url)  # noqa: E731
        assert expired() == 0
        # Written after the list, so that what the watch goes on from is the past.
        for i in range(20):
            touched = {"metadata": {"annotations": {"yard.test/touched": f"{process.pid}-{i}"}}}
            target.admin.patch("/api/v1/namespaces/yard-jobs", touched)
        target.cluster.etcd.compact()
        until("the driver is told 410", lambda: expired() > 0, 60)
        assert "the API server has forgotten where the watch was" in process.log_text()
        until_ready(yard)
        ended = yard.api.wait_end(submit(yard, "after"), 60)
        assert ended["state"] == "succeeded" and len(ended["attempts"]) == 1, ended
    finally:
        api.extra = []
        target.kuberay.restart_api()


def test_two_clusters_have_nothing_to_do_with_each_other(yard_kube, target, other_target):
    """One process, a client each: what cuts one off does not touch the other. They share the nodes here, as two namespaces of one
    Kubernetes cluster do: what runs in one of them is not room for the other, and neither looks into the other's namespace."""
    yard, targets = yard_kube, {"kube": target, "kube-b": other_target}
    configure(yard, target, also=(other_target.section(id="kube-b"),))
    before = {name: len(one.asked()) for name, one in targets.items()}
    [process] = yard.start(1)
    clusters = lambda: {one["id"]: one for one in yard.api.get("/v1/clusters")["clusters"]}  # noqa: E731
    until("both are ready", lambda: [one["health"] for one in clusters().values()] == ["ready"] * 2, 30)
    cpus = lambda: {name: one.get("capacity", {}).get("cpu") for name, one in clusters().items()}  # noqa: E731
    until("both have all nodes", lambda: cpus() == {"kube": 48, "kube-b": 48}, 30)
    long = submit(yard, "long", 600, only=["kube-b"], resources={"cpu": 4})
    until("it runs", lambda: yard.log.started("ads/long"), 60)
    until("its pods are no room for the other", lambda: cpus() == {"kube": 44, "kube-b": 48}, 30)
    other_target.link.cut()
    until("one of them is unreachable", lambda: clusters()["kube-b"]["health"] == "unreachable", 30)
    ended = yard.api.wait_end(submit(yard, "meanwhile", only=["kube"]), 60)
    assert ended["state"] == "succeeded" and clusters()["kube"]["health"] == "ready", ended
    other_target.link.mend()
    until("it is back", lambda: clusters()["kube-b"]["health"] == "ready", 30)
    assert yard.api.stop(long).status_code in (200, 202)
    assert len(yard.api.wait_end(long, 60)["attempts"]) == 1
    until("there is all the room again", lambda: cpus() == {"kube": 48, "kube-b": 48}, 60)
    for name, one in targets.items():
        asked = one.asked()[before[name] :]
        assert {call["namespace"] for call in asked if call["namespace"]} == {one.namespace}
        assert [call for call in asked if call["code"] == 403] == []
        gpus = yard.api.metric("yard_kuberay_gpus", process.url, cluster=name, what="capacity")
        assert gpus == 8, f"{name} has its own metrics"
        until_all_is_gone(one)
    invariants.check_all(yard)


def test_in_a_pod_it_is_the_pods_account(yard_kube, target):
    """in_cluster: the token and the CA that Kubernetes mounts, with the rights that are shipped; when the token is replaced, the
    new one is used."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("a mount namespace takes root: nothing can be mounted at /run/secrets here")
    yard = yard_kube
    before = len(target.asked())
    target.put_in_pod(yard, target.write_account(45))
    old = (target.folder / "account" / "token").read_text()
    configure(yard, target, in_cluster=True, kubeconfig=None)
    yard.start(1)
    until_ready(yard)
    target.write_account(3600)
    path = "/apis/ray.io/v1/namespaces/yard-jobs/rayjobs"
    assert target.answer_to(old, path) == 200
    until("the old token is over", lambda: target.answer_to(old, path) == 401, 60)
    ended = yard.api.wait_end(submit(yard, "later"), 60)
    assert ended["state"] == "succeeded" and len(ended["attempts"]) == 1, ended
    until_ready(yard)
    asked = target.asked()[before:]
    assert any(call["verb"] == "create" and call["code"] == 201 for call in asked)
    assert [call for call in asked if call["code"] == 403] == []


def test_too_many_requests(yard_kube, target):
    """Priority and fairness gives the dispatcher and somebody greedy one place together: 429s are waited out, nothing is lost."""
    yard = yard_kube
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    running = submit(yard, "running", 8)
    until("it runs", lambda: yard.log.runs(), 60)
    before = len(target.asked())
    with target.crowded():
        refused = lambda: [call for call in target.asked()[before:] if call["code"] == 429]  # noqa: E731
        until("it is refused", lambda: len(refused()) >= 3, 30)
        waiting = submit(yard, "waiting")
        until("it is refused further", lambda: len(refused()) >= 6, 30)
    for job in (running, waiting):
        ended = yard.api.wait_end(job, 90)
        assert ended["state"] == "succeeded" and len(ended["attempts"]) == 1, ended
    invariants.check_all(yard)


def test_an_expired_token_is_asked_for_again(yard_kube, target):
    """An exec plugin, as on EKS: its token ends, the next one is taken; while it has none, the cluster says so."""
    yard = yard_kube
    credential = target.write_exec_kubeconfig()

    def in_s(seconds: float) -> str:
        at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")

    target.write_credential(credential, 30, in_s(30))
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    gate = yard.gate()
    job = submit(yard, "long", gate)
    until("it runs", lambda: yard.log.runs(), 60)
    until_told(yard, "401", timeout_s=60)
    target.write_credential(credential, 3600, in_s(3600))
    until_ready(yard)
    gate.touch()
    ended = yard.api.wait_end(job, 90)
    assert ended["state"] == "succeeded" and len(ended["attempts"]) == 1, ended
    invariants.check_all(yard)


def test_another_dispatcher_takes_over(yard_kube, target):
    """The one that launched is killed; the other adopts what runs. One RayJob per attempt, none of them twice."""
    yard = yard_kube
    configure(yard, target)
    yard.start(2)
    until_ready(yard)
    jobs = [submit(yard, f"j{i}", 10) for i in range(4)]
    until("some run", lambda: len(yard.log.runs()) >= 2, 60)
    first = yard.process_holding("kube")
    first.kill()
    until("another dispatches", lambda: yard.process_holding("kube") is not first, 20)
    for job in jobs:
        ended = yard.api.wait_end(job, 90)
        assert ended["state"] == "succeeded" and len(ended["attempts"]) == 1, ended
    until_all_is_gone(target)
    invariants.check_all(yard)


def test_an_image_that_is_not_there(yard_kube, target):
    """The attempt fails by its deadline, and says what its pod says."""
    yard = yard_kube
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    cluster = {"profile": "ill", "env": {"YARD_TEST_FAIL": "ImagePullBackOff"}}
    ended = yard.api.wait_end(submit(yard, "ill", max_retries=0, ray_cluster=cluster), 90)
    assert ended["state"] == "failed" and "ImagePullBackOff" in json.dumps(ended["attempts"]), ended
    until_all_is_gone(target)
    assert yard.log.runs() == []


def test_no_node_is_large_enough(yard_kube, target):
    yard = yard_kube
    # Declared, so that it is planned at all: observed capacity would hold it back.
    configure(yard, target, capacity={"cpu": 1000})
    yard.start(1)
    until_ready(yard)
    job = submit(yard, "large", max_retries=0, resources={"cpu": 500}, ray_cluster={"profile": "ill"})
    ended = yard.api.wait_end(job, 90)
    assert ended["state"] == "failed" and "Insufficient cpu" in json.dumps(ended["attempts"]), ended
    until_all_is_gone(target)


def test_a_head_that_runs_out_of_memory(yard_kube, target):
    """The command dies with it. The operator makes no other head; the attempt ends, and what comes next is a new RayJob of ours."""
    yard = yard_kube
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    job = submit(yard, "lost", 20, max_retries=1, ray_cluster={"profile": "own"})
    until("it runs", lambda: yard.log.runs(), 90)
    yard.api.wait_state(job, "running", timeout_s=30)
    [pod] = target.jobs.pods(node_type="head")
    path = f"/api/v1/namespaces/yard-jobs/pods/{pod['metadata']['name']}"
    target.admin.patch(path, {"metadata": {"annotations": {"yard.test/fail": "OOMKilled"}}})
    heads: set[tuple[str, str]] = set()

    def has_ended() -> bool:
        there = [pod["metadata"] for pod in target.jobs.pods(node_type="head")]
        heads.update((meta["labels"]["yard.attempt"], meta["name"]) for meta in there)
        return yard.api.job(job)["state"] in ("succeeded", "failed")

    until("it has ended", has_ended, 180)
    ended = yard.api.job(job)
    attempts = json.dumps(ended["attempts"])
    assert ended["state"] == "succeeded" and len(ended["attempts"]) == 2, attempts
    # The operator takes the pod away as soon as it sees its end, so who asks later may find nothing about it.
    assert "OOMKilled" in json.dumps(ended["attempts"][0]) or "its head was lost" in json.dumps(ended["attempts"][0]), attempts
    assert sorted(attempt for attempt, _ in heads) == ["1", "2"], f"one head for each attempt: {heads}"
    until_all_is_gone(target)
    assert {run.attempt for run in yard.log.runs()} == {1, 2}


def test_the_operator_is_away(yard_kube, target):
    """One RayJob waits for it, no more are made; then all goes on."""
    yard = yard_kube
    configure(yard, target, operator_patience_s=5)
    yard.start(1)
    until_ready(yard)
    target.kuberay.operator.stop()
    try:
        job = submit(yard, "waits")
        until("its RayJob is there", lambda: target.jobs.names(), 30)
        until("the cluster is not ready", lambda: health(yard)["health"] == "not_ready", 30)
        told = health(yard)
        assert "the KubeRay operator has not taken up" in told["message"] and not told["takes_jobs"], told
        shown = yard.run("clusters", "--server", yard.processes[0].url).stdout
        assert "not_ready" in shown and "the KubeRay operator has not taken up" in shown, shown
        second = submit(yard, "second")
        always("no other RayJob is made", lambda: len(target.jobs.names()) == 1, 3)
        assert yard.api.job(second)["state"] == "queued"
    finally:
        target.kuberay.operator.start()
    until_ready(yard)
    assert "message" not in health(yard)
    for one in (job, second):
        ended = yard.api.wait_end(one, 90)
        assert ended["state"] == "succeeded" and len(ended["attempts"]) == 1, ended
    until_all_is_gone(target)


def asked_by(pods: list[dict]) -> dict[str, float]:
    """What these pods ask of their nodes together, as a scheduler counts it."""
    total: dict[str, float] = {}
    for pod in pods:
        for name, amount in kubelet_rules.requests(pod).items():
            total[name] = round(total.get(name, 0) + amount, 6)
    total.pop("pods")
    return total


@pytest.mark.parametrize(
    ("profile", "number"),
    [
        ("real", {"count": 2}),
        ("submitter", {"count": 2}),
        ("sidecar", {"count": 2}),
        ("real", {"min": 1, "max": 3}),
        ("submitter", {"min": 0, "max": 2}),
        ("sidecar", {"min": 0, "max": 2}),
    ],
)
def test_the_pods_ask_for_exactly_what_is_charged(yard_kube, target, profile, number):
    """Head, workers, submitter and autoscaler as the operator makes them, when there are most of them; and the job runs."""
    yard = yard_kube
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    workers = {**number, "cpu": 1, "gpu": 1, "memory": "1GiB"}
    charge = {"cpu": 6.25, "gpu": 4, "memory": "7GiB"}
    gate = yard.gate()
    job = submit(yard, "shape", gate, resources=charge, ray_cluster={"profile": profile, "workers": workers})
    until("it runs", lambda: yard.log.runs(), 90)
    [cluster] = target.jobs.names("rayclusters")
    if "max" in number:
        assert len(target.jobs.pods(node_type="worker")) == number["min"]
        target.jobs.scale_up(cluster)
    count = number.get("count") or number["max"]
    until("all workers are there", lambda: len(target.jobs.pods(node_type="worker")) == count, 60)
    pods = target.jobs.pods_of(job)
    assert len(pods) == 1 + count + (profile == "submitter"), [pod["metadata"]["name"] for pod in pods]
    [head] = target.jobs.pods(node_type="head")
    beside = {"ray-job-submitter"} if profile == "sidecar" else set()
    beside |= {"autoscaler"} if "max" in number else set()
    assert {container["name"] for container in head["spec"]["containers"]} == {"ray-head"} | beside
    assert asked_by(pods) == {"cpu": 6.25, "memory": 7 * 2**30, "nvidia.com/gpu": 4}
    [used] = [c["used"] for c in yard.api.get("/v1/clusters")["clusters"]]
    assert (used["cpu"], used["gpu"], used["memory_bytes"]) == (6.25, 4, 7 * 2**30)
    gate.touch()
    ended = yard.api.wait_end(job, 90)
    assert ended["state"] == "succeeded" and len(ended["attempts"]) == 1, ended
    until_all_is_gone(target)
    invariants.check_all(yard)


@pytest.mark.parametrize("outcome", ["fail", "stop"])
def test_a_submitter_beside_the_head(yard_kube, target, outcome):
    """`SidecarMode`: what the command ends with is told, and a stop reaches it."""
    yard = yard_kube
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    keys = {"max_retries": 0, "resources": {"cpu": 2, "memory": "2GiB"}, "ray_cluster": {"profile": "sidecar"}}
    job = submit(yard, "beside", 0.2 if outcome == "fail" else 600, "fail" if outcome == "fail" else "ok", **keys)
    if outcome == "stop":
        until("it runs", lambda: yard.log.runs(), 90)
        yard.api.wait_state(job, "running", timeout_s=30)
        yard.api.stop(job)
    ended = yard.api.wait_end(job, 90)
    assert ended["state"] == ("failed" if outcome == "fail" else "stopped"), ended
    if outcome == "fail":
        assert "exit code 3" in json.dumps(yard.api.history(job))
    until_all_is_gone(target)


def until_profiles_are_told(yard, absent: str = "") -> None:
    """What is refused at the door follows from what the dispatcher has told."""

    def told() -> bool:
        profiles = health(yard).get("profiles", [])
        return bool(profiles) and absent not in profiles

    until("the dispatcher has told its profiles", told, 30)


def test_what_could_never_be_made_is_refused_at_every_door(yard_kube, target):
    """All errors at once with field and fix; no job, no RayJob."""
    yard = yard_kube
    configure(yard, target)
    yard.start(1)
    until_ready(yard)
    until_profiles_are_told(yard)
    assert health(yard)["profiles"][0] == "real"
    shape = {"profile": "sidecar", "image": "mine", "workers": {"count": 1, "cpu": 0.1, "gpu": 0.5, "gpu_type": "h100"}}
    impossible = Job("ads", "http", resources={"cpu": 1.5, "gpu": 0.5}, ray_cluster=shape).document(yard.log.path)
    wrong = {
        "ray_cluster.image", "ray_cluster.workers.cpu", "ray_cluster.workers.gpu", "ray_cluster.workers.gpu_type", "resources.cpu",
    }  # fmt: skip

    tried = itertools.count()

    def refused() -> dict | None:
        answer = yard.api.submit({**impossible, "key": f"try-{next(tried)}"})  # a key that was accepted stays so
        return answer.json() if answer.status_code == 422 else None

    # The door looks at what it read of the clusters a moment ago: what came before it knew waits, and is never launched.
    errors = until("the door refuses it", refused, 20)["errors"]
    assert {error["field"] for error in errors} == wrong, errors
    assert all(error["code"] == "never_fits" and "kube: " in error["message"] for error in errors), errors
    unknown = {**impossible, "key": "batch", "ray_cluster": {"profile": "tpu"}, "resources": {"cpu": 1}}
    [verdict] = yard.api.request("POST", "/v1/jobs/batch", json={"jobs": [unknown]}).json()["verdicts"]
    assert verdict["verdict"] == "rejected" and 'kube: has no profile "tpu"; there are: ' in verdict["errors"][0]["message"], verdict
    yard.queues.send({**impossible, "key": "queue"})
    receipt = yard.api.wait_receipt("ads", "queue")
    assert receipt["verdict"] == "rejected" and {error["field"] for error in receipt["errors"]} == wrong, receipt
    half = {"entrypoint": "true", "entrypoint_num_gpus": 0.5, "metadata": {"yard.team": "ads"}}
    answer = yard.api.request("POST", "/api/jobs/", json=half)
    assert answer.status_code in (400, 422) and "whole ones only" in answer.text, answer.text[:500]
    told_late = next(tried) - 1
    assert target.jobs.names() == [] and yard.database.value("SELECT COUNT(*) FROM jobs") == told_late
    assert yard.database.value("SELECT COUNT(*) FROM jobs WHERE state <> 'queued'") == 0


def test_a_profile_that_is_taken_out_while_a_job_waits(yard_kube, target):
    """It waits with the reason, is not launched to be refused, and goes on when the profile is back."""
    yard = yard_kube
    configure(yard, target)
    [process] = yard.start(1)
    yard.environment["YARD_SERVER"] = process.url
    until_ready(yard)
    yard.run("drain", "kube")
    job = submit(yard, "waits", ray_cluster={"profile": "own"}, entrypoint="true")
    target.drop_profile("own")
    process.terminate()
    process.start()
    yard.wait_ready()
    until_profiles_are_told(yard, absent="own")
    yard.run("resume", "kube")
    yard.wait_ready()

    def told() -> dict | None:
        found = yard.api.get(f"/v1/jobs/{job}/explain").get("clusters", [])
        return next((answer for answer in found if answer["code"] == "no_ray_cluster"), None)

    answer = until("it is told why it waits", told, 30)
    assert answer["cluster"] == "kube" and answer["message"].startswith('has no profile "own"; there are: '), answer
    assert 'has no profile "own"' in yard.run("explain", job).stdout
    assert yard.api.job(job)["attempts"] == [] and target.jobs.names() == []
    target.prepare()
    process.terminate()
    process.start()
    assert yard.api.wait_end(job, 120)["state"] == "succeeded"


def test_gpus_that_lie_scattered(yard_kube, target):
    """How they lie is told, and a job whose pod no node could ever hold waits with the reason instead of failing there."""
    yard = yard_kube
    target.kuberay.add_node(9, "gpu-2", 16, "64Gi", gpu=4, labels={"nvidia.com/gpu.product": "A10"})
    try:
        configure(yard, target)
        [process] = yard.start(1)
        yard.environment["YARD_SERVER"] = process.url
        until_ready(yard)
        kinds = lambda: {gpus["kind"]: gpus for gpus in health(yard).get("gpus", [])}  # noqa: E731
        until("it is told how they lie", lambda: set(kinds()) == {"A100", "A10"}, 30)
        assert kinds()["A10"] == {"kind": "A10", "capacity": 4, "free": 4, "largest_free": 4, "largest": 4}
        assert "free 8 gpu A100, largest block 8" in yard.run("clusters").stdout
        job = submit(yard, "wide", resources={"cpu": 1, "gpu": 12}, entrypoint="true")

        def told() -> dict | None:
            found = yard.api.get(f"/v1/jobs/{job}/explain").get("clusters", [])
            return next((answer for answer in found if answer["code"] == "no_block"), None)

        message = until("it is told why it waits", told, 30)["message"]
        assert message.startswith("free 12 gpu, largest block 8: no pod can have 12"), message
        narrow = {"profile": "real", "workers": {"count": 3, "cpu": 1, "gpu": 4, "memory": "1GiB"}}
        cut = submit(yard, "cut", 8, resources={"cpu": 4, "gpu": 12, "memory": "4GiB"}, ray_cluster=narrow)
        until("it runs", lambda: yard.log.runs(), 90)
        until("all are in use", lambda: all(gpus["free"] == 0 for gpus in kinds().values()), 20)
        assert yard.api.wait_end(cut, 60)["state"] == "succeeded"
        assert yard.api.job(job)["attempts"] == []
    finally:
        target.admin.delete("/api/v1/nodes/gpu-2")


def test_a_ray_cluster_that_has_lost_its_rayjob(yard_kube, target):
    """The garbage collector is away when somebody deletes a RayJob: its Ray cluster is found by its labels, and deleted; one of
    another installation's is left alone."""
    yard = yard_kube
    configure(yard, target)
    [process] = yard.start(1)
    until_ready(yard)
    job = submit(yard, "robbed", 600, max_retries=0)
    until("it runs", lambda: yard.log.started("ads/robbed"), 60)
    yard.api.wait_state(job, "running", timeout_s=30)
    [name], [mine] = target.jobs.names(), target.jobs.names("rayclusters")
    path = target.jobs.path(mine, "rayclusters")
    labels = target.admin.get(path)["metadata"]["labels"]
    strange = {**labels, "yard.instance": "0" * 32, "yard.attempt": "7"}
    spec = target.admin.get(path)["spec"]
    target.kuberay.operator.stop()
    target.cluster.controllers.stop()
    try:
        body = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "strange", "labels": strange}, "spec": spec}
        target.admin.create(target.jobs.path(resource="rayclusters"), body)
        # The owner goes without a word to what it owns, and without its finalizer, which the operator would take off.
        target.admin.patch(target.jobs.path(name), {"metadata": {"finalizers": None}})
        target.jobs.delete(name)
        until("the RayJob is gone", lambda: name not in target.jobs.names(), 30)
        until("its attempt is over", lambda: yard.api.job(job)["attempts"][0].get("ended_at"), 60)
        count = lambda: yard.api.metric("yard_kuberay_orphans", process.url)  # noqa: E731
        until("both are counted", lambda: count() == 2, 30)
        left = lambda: set(target.jobs.names("rayclusters"))  # noqa: E731
        until("ours is deleted", lambda: left() == {"strange"}, 60)
        assert yard.api.metric("yard_kuberay_orphans_deleted_total", process.url) == 1
        always("the other is left alone", lambda: left() == {"strange"}, 8)
        assert yard.api.job(job)["attempts"][0]["end"] == "lost"
        yard.api.stop(job)
    finally:
        target.admin.delete(target.jobs.path("strange", "rayclusters"))
        target.kuberay.head.request("POST", f"/api/jobs/{name}/stop")
        target.cluster.controllers.start()
        target.kuberay.operator.start()


def test_a_thousand_rayjobs_at_the_paced_rate(yard_kube, target):
    """Each is created once, not faster than the catalog says, ends in one attempt, and leaves nothing."""
    yard = yard_kube
    count, rate, burst = int(os.environ.get("YARD_TEST_RAYJOBS", "1000")), 20, 40
    # What they ask for is small: the test is about the traffic, not the nodes.
    configure(yard, target, launch_rate_per_s=rate, launch_burst=burst, jobs_max=400)
    before = len(target.asked())
    yard.start(1)
    until_ready(yard)
    keys = [Job("ads", f"j{i}", entrypoint="true", resources={"cpu": 0.01}, ray_cluster=FAKE) for i in range(count)]
    for job in keys:
        yard.api.submitted(job.document(yard.log.path))
    ended = "SELECT COUNT(*) FROM jobs WHERE ended_us IS NOT NULL"
    until("all have ended", lambda: yard.database.value(ended) == count, 900, pause_s=1)
    assert yard.database.value("SELECT COUNT(*) FROM jobs WHERE state = 'succeeded'") == count
    assert yard.database.value("SELECT COUNT(*) FROM attempts") == count
    asked = target.asked()[before:]
    created = [call for call in asked if (call["verb"], call["resource"], call["code"]) == ("create", "rayjobs", 201)]
    assert len({call["name"] for call in created}) == len(created) == count
    times = sorted(call["at_s"] for call in created)
    for window_s in (1, 5, 20):
        most = max(sum(1 for t in times[i:] if t < start + window_s) for i, start in enumerate(times))
        assert most <= burst + rate * window_s, f"{most} in {window_s} s"
    # The operator and the cluster's garbage collector take their time for each.
    until_all_is_gone(target, 60 + count / 2)
    # Nothing ran, so there are no runs to hold against the store: what was created stands for them.
    stored = {f"yard-{row['job_id'].hex()}-{row['number']}" for row in yard.database.query("SELECT job_id, number FROM attempts")}
    assert {call["name"] for call in created} == stored
    invariants.check_histories(yard)
    invariants.check_ledger(yard)
    invariants.check_nothing_held(yard)
