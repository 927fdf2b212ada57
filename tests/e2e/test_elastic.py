"""A cluster that grows: jobs are placed up to its ceiling, and expected later by the autoscaler's delay."""

from datetime import datetime

from support import invariants
from support.jobs import Job
from support.wait import until

DELAY_S = 60


def test_jobs_fit_by_the_ceiling_and_are_expected_after_the_delay(yard):
    """2 cpus are present of 8 that there may be."""
    elastic = {"ceiling": {"cpu": 8, "memory": "16GiB"}, "delay_s": DELAY_S}
    yard.configure(clusters=[yard.process_cluster("east", capacity={"cpu": 2, "memory": "4GiB"}, elastic=elastic)])
    [process] = yard.start(1)
    yard.environment["YARD_SERVER"] = process.url

    def present():
        [east] = yard.api.get("/v1/clusters")["clusters"]
        return east["takes_jobs"] and east["elastic"].get("present") and east

    east = until("what is present has been read", present)
    assert (east["elastic"]["present"]["cpu"], east["capacity"]["cpu"], east["elastic"]["delay_s"]) == (2, 8, DELAY_S)
    assert "grows to cpu 8" in yard.run("clusters").stdout

    def document(key: str, cpu: float) -> dict:
        return Job("ads", key, 300, resources={"cpu": cpu}).document(yard.log.path)

    refused = yard.api.submit(document("above", 9))
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "never_fits")
    holder = yard.api.submitted(document("holder", 4))
    yard.api.wait_state(holder, "running")
    large = yard.api.submitted(document("large", 6))

    def forecast():
        found = yard.api.get(f"/v1/jobs/{large}/explain")
        ends = [change for change in found.get("changes", []) if change["code"] == "job_ends"]
        return ends and found["expected_start"]["code"] == "forecast" and (ends[0], found["expected_start"])

    ends, start = until("its start is forecast", forecast)
    assert [job["job"] for job in ends["jobs"]] == [holder]
    later = datetime.fromisoformat(start["at"]) - datetime.fromisoformat(ends["expected"])
    assert (start["cluster"], later.total_seconds()) == ("east", DELAY_S)
    yard.api.stop(holder)
    assert yard.api.wait_state(large, "running")["cluster"] == "east"
    yard.api.stop(large)
    yard.api.wait_end(large)
    invariants.check_all(yard)
