"""Clusters that fall silent, vanish or come back, and a control plane that dies: unreachable is not lost."""

import pytest

from support import evidence, invariants
from support.jobs import Job
from support.proxy import Proxy
from support.wait import always, until


@pytest.fixture
def link(ray_heads):
    """A link to the first Ray head that can be cut."""
    proxy = Proxy(ray_heads[0].port)
    yield proxy
    proxy.close()


@pytest.fixture
def mortal_head(ray_heads):
    """The first Ray head, which the test may kill: it is up again afterwards."""
    yield ray_heads[0]
    if not ray_heads[0].alive():
        ray_heads[0].start()


def health(yard, cluster: str) -> str:
    """What the API says of a cluster."""
    clusters = {found["id"]: found for found in yard.api.get("/v1/clusters")["clusters"]}
    return clusters[cluster]["health"]


def test_a_cut_link_shorter_than_the_grace_changes_nothing(yard_ray, link):
    """The cluster shows as unreachable, its job stays as it is and ends well, in its one attempt."""
    yard = yard_ray
    clusters = [yard.ray_cluster(0, address=link.address), yard.process_cluster("local")]
    yard.configure(clusters=clusters, dispatcher={"unreachable_after_s": 1, "cluster_lost_grace_s": 60})
    yard.start(1)
    gate = yard.gate()
    job = yard.api.submitted(Job("ads", "patient", gate, only=["ray-a"]).document(yard.log.path))
    until("it runs", lambda: yard.log.started("ads/patient"), 30)
    yard.api.wait_state(job, "running")
    link.cut()
    until("the cluster is unreachable", lambda: health(yard, "ray-a") == "unreachable", 30)
    # Others are not held up, and nothing new goes to the silent one.
    other = yard.api.submitted(Job("ads", "other", 0.2).document(yard.log.path))
    assert yard.api.wait_end(other)["attempts"][0]["cluster"] == "local"
    gate.touch()
    until("its command has ended meanwhile", lambda: yard.log.started("ads/patient")[0].end, 15)
    assert yard.api.job(job)["state"] == "running"
    link.mend()
    ended = yard.api.wait_end(job)
    assert ended["state"] == "succeeded" and len(ended["attempts"]) == 1
    until("the cluster is ready", lambda: health(yard, "ray-a") == "ready", 30)
    invariants.check_all(yard)


def test_a_cluster_lost_for_good_gives_its_jobs_to_another(yard_ray, mortal_head):
    """Its jobs stay until the grace is over, then are retried elsewhere, at the installation's cost."""
    yard = yard_ray
    yard.configure(
        clusters=[yard.ray_cluster(0), yard.ray_cluster(1)],
        dispatcher={"unreachable_after_s": 1, "cluster_lost_grace_s": 12},
    )
    yard.start(1)
    assert yard.api.request("POST", "/v1/clusters/ray-b/drain").status_code == 200
    gate = yard.gate()
    job = yard.api.submitted(Job("ads", "homeless", gate).document(yard.log.path))
    until("it runs", lambda: yard.log.started("ads/homeless"), 30)
    yard.api.wait_state(job, "running")
    assert yard.api.request("POST", "/v1/clusters/ray-b/resume").status_code == 200
    mortal_head.kill()
    always("it stays where it is within the grace", lambda: yard.api.job(job)["state"] == "running", for_s=3)
    gate.touch()
    ended = yard.api.wait_end(job, 60)
    assert ended["state"] == "succeeded", ended
    ends = [(attempt["cluster"], attempt["end"]) for attempt in ended["attempts"]]
    assert ends == [("ray-a", "lost"), ("ray-b", "succeeded")]
    names = [job["submission_id"] for job in evidence.ray_jobs(yard.ray[1])]
    assert names == [yard.log.started("ads/homeless")[1].name], "launched once on the other cluster"
    check_without_overlap(yard)


def test_a_restarted_head_has_lost_its_jobs_at_once(yard_ray, mortal_head):
    """It answers, in a new session without them: retried without waiting for any grace."""
    yard = yard_ray
    yard.configure(clusters=[yard.ray_cluster(0)], dispatcher={"cluster_lost_grace_s": 600})
    yard.start(1)
    gate = yard.gate()
    job = yard.api.submitted(Job("ads", "forgotten", gate).document(yard.log.path))
    until("it runs", lambda: yard.log.started("ads/forgotten"), 30)
    yard.api.wait_state(job, "running")
    mortal_head.kill()
    mortal_head.start()
    gate.touch()
    ended = yard.api.wait_end(job, 120)
    assert ended["state"] == "succeeded", ended
    assert [attempt["end"] for attempt in ended["attempts"]] == ["lost", "succeeded"]
    check_without_overlap(yard)


def check_without_overlap(yard) -> None:
    """As `invariants.check_all`, where commands died with their head and could not log their end."""
    runs = yard.log.runs()
    assert not evidence.launched_twice(runs)
    assert runs[0].end is None and runs[-1].how == "end-0", runs
    invariants.check_histories(yard)
    invariants.check_ledger(yard)
    invariants.check_nothing_held(yard)


def test_the_death_of_the_whole_control_plane_does_not_touch_healthy_jobs(yard_ray):
    """All processes are killed while jobs run on Ray and as processes; what ended meanwhile is found out."""
    yard = yard_ray
    yard.configure(clusters=[yard.ray_cluster(0), yard.process_cluster("local")])
    processes = yard.start(2)
    jobs = [Job("ads", "on-ray", 4, only=["ray-a"]), Job("ads", "short", 2, only=["local"])]
    jobs.append(Job("ads", "long", 8, only=["local"]))
    ids = [yard.api.submitted(job.document(yard.log.path)) for job in jobs]
    for job in jobs:
        until(f"{job.tag} runs", lambda job=job: yard.log.started(job.tag), 30)
    for process in processes:
        process.kill()
    until("one has ended while nobody looked", lambda: yard.log.started("ads/short")[0].end, 15)
    for process in processes:
        process.start()
    yard.wait_ready()
    for job in ids:
        ended = yard.api.wait_end(job, 30)
        assert ended["state"] == "succeeded" and len(ended["attempts"]) == 1, ended
    assert len(yard.log.runs()) == len(jobs)
    invariants.check_all(yard)


def test_an_orphan_is_stopped_and_a_stranger_is_left_alone(yard_ray):
    """What runs under a name of ours but is not current is swept; what is not ours is never touched."""
    yard = yard_ray
    yard.configure(clusters=[yard.ray_cluster(0)])
    head = yard.ray[0]
    stranger = {"submission_id": "somebody-elses", "entrypoint": "sleep 300"}
    foreign = {"submission_id": f"yard-{'0' * 12}7{'0' * 3}8{'0' * 15}-1", "entrypoint": "sleep 300"}
    for body in (stranger, foreign):
        assert head.request("POST", "/api/jobs/", body)[0] == 200
    yard.start(1)
    job = yard.api.submitted(Job("ads", "ours", 3).document(yard.log.path))
    assert yard.api.wait_end(job, 40)["state"] == "succeeded"
    status = {found["submission_id"]: found["status"] for found in evidence.ray_jobs(head)}
    for body in (stranger, foreign):
        assert status[body["submission_id"]] == "RUNNING", status
