"""Replicas of which only some have a cluster's secret: those that have it drive the cluster, the others leave it alone."""

from support import invariants
from support.config import toml
from support.jobs import Job
from support.wait import until


def apply(yard, **team) -> None:
    """Puts the catalog in force: a Ray cluster, and one that needs no secret."""
    clusters = [yard.ray_cluster(0), yard.process_cluster("local")]
    file = yard.folder / "catalog.toml"
    file.write_text(toml({"team": [{"id": "ads", **team}], "cluster": clusters}))
    yard.run("apply", str(file), "--yes")


def test_a_replica_without_the_secret_leaves_the_cluster_to_the_other(yard_ray):
    """It says so once, however often it reads the catalog; jobs run, through the other one."""
    yard = yard_ray
    yard.configure(teams=[], clusters=[])
    secret = yard.ray_cluster(0)["token_env"]
    token = yard.environment.pop(secret)
    [without] = yard.start(1)
    yard.environment[secret] = token
    [having] = yard.start(1)
    yard.environment["YARD_SERVER"] = without.url
    apply(yard)
    name = yard.ray_cluster(0)["id"]
    assert yard.process_holding(name) is having
    until("the other cluster is driven too", lambda: yard.database.dispatchers().get("local"))

    def job(key: str, cluster: str) -> str:
        return yard.api.submitted(Job("ads", key, only=[cluster]).document(yard.log.path))

    until("the catalog is known everywhere", lambda: all(
        [c["id"] for c in yard.api.get("/v1/clusters", at=p.url)["clusters"] if c["takes_jobs"]] == ["local", name]
        for p in yard.processes
    ))
    for id in [job("far", name), job("near", "local")]:
        assert yard.api.wait_end(id, timeout_s=60)["state"] == "succeeded"

    apply(yard, weight=2)
    until("it has been taken over", lambda: without.log_text().count("taking over the catalog") == 2)
    until("the other one, too", lambda: having.log_text().count("taking over the catalog") == 2)
    told = [line for line in without.log_text().splitlines() if "can't drive the cluster" in line]
    assert len(told) == 1 and name in told[0] and secret in told[0], told
    assert token not in without.log_text() + having.log_text()
    assert "can't drive the cluster" not in having.log_text()
    assert yard.process_holding(name) is having
    assert yard.api.wait_end(job("again", name), timeout_s=60)["state"] == "succeeded"
    invariants.check_all(yard)
