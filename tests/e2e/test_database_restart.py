"""The database crashes and comes back while everything is at work, or its answers get lost."""

from support import invariants
from support.jobs import Job
from support.proxy import LosesCommits
from support.wait import until

JOBS = 60


def test_a_crash_of_the_database_under_load_loses_and_doubles_nothing(yard, mariadb):
    """Submissions by both doors, launches and ends go on as soon as it is back; no process had to be restarted."""
    yard.configure()
    processes = yard.start(2)
    jobs = [Job("ads", f"job-{i:02}", 0.4, resources={"cpu": 0.5}) for i in range(JOBS)]
    for i, job in enumerate(jobs):
        document = job.document(yard.log.path)
        if i % 2:
            yard.queues.send(document)
        else:
            assert yard.api.submit(document).status_code in (200, 201)
        if i in (JOBS // 3, 2 * JOBS // 3):
            mariadb.kill()
            mariadb.start()

    def all_ended() -> bool:
        rows = yard.database.query("SELECT state FROM jobs")
        return [row["state"] for row in rows] == ["succeeded"] * JOBS

    until("all jobs have succeeded", all_ended, 60, 0.2)
    assert all(process.alive() and process.starts == 1 for process in processes)
    until("the queue is empty", lambda: yard.queues.waiting() == 0)
    runs = yard.log.runs()
    assert sorted(run.tag for run in runs) == sorted(job.tag for job in jobs), "each ran exactly once"
    invariants.check_all(yard)


def test_while_the_database_is_away_nothing_is_accepted_and_running_jobs_go_on(yard, mariadb):
    """/healthz stays, /readyz and submissions say no, and what was running ends well afterwards."""
    yard.configure()
    [process] = yard.start(1)
    running = Job("ads", "running", 3)
    job = yard.api.submitted(running.document(yard.log.path))
    yard.api.wait_state(job, "running")
    mariadb.kill()
    try:

        def not_ready() -> bool:
            return yard.api.request("GET", "/readyz", at=process.url).status_code == 503

        until("/readyz says 503", not_ready, 15)
        assert yard.api.request("GET", "/healthz", at=process.url).status_code == 200
        document = Job("ads", "refused").document(yard.log.path)
        refused = yard.api.request("POST", "/v1/jobs", at=process.url, json=document, timeout=40)
        assert refused.status_code == 503 and refused.headers["content-type"] == "application/problem+json"
        message = yard.queues.send(Job("ads", "patient").document(yard.log.path))
        assert message
    finally:
        mariadb.start()
    assert yard.api.wait_end(job)["state"] == "succeeded"
    until("the message was not lost", lambda: yard.api.receipt("ads", "patient"), 30)
    patient = yard.api.receipt("ads", "patient")
    assert yard.api.wait_end(patient["job"])["state"] == "succeeded"
    assert [run.tag for run in yard.log.runs()].count("ads/running") == 1
    assert yard.api.receipt("ads", "refused") is None
    invariants.check_all(yard)


def test_commits_whose_answers_are_lost_are_found_out(yard, mariadb, capsys):
    """Every so often a transaction is committed and nobody is told: nothing is lost, doubled, or left hanging."""
    proxy = LosesCommits(mariadb.port, every=17)
    yard.configure()
    yard.migrate()
    direct = yard.database.url
    yard.environment["YARD__DATABASE__URL"] = direct.replace(f":{mariadb.port}/", f":{proxy.port}/")
    assert yard.environment["YARD__DATABASE__URL"] != direct
    try:
        yard.start(2)
        proxy.begin()
        jobs = [Job("ads", f"job-{i:02}", 0.2, "fail-until-2", max_retries=1, resources={"cpu": 0.5}) for i in range(40)]
        for i, job in enumerate(jobs):
            document = job.document(yard.log.path)
            if i % 2:
                yard.queues.send(document)
            else:
                assert yard.api.submit(document).status_code in (200, 201)

        def all_ended() -> bool:
            rows = yard.database.query("SELECT state FROM jobs")
            return [row["state"] for row in rows] == ["succeeded"] * len(jobs)

        until("all jobs have succeeded", all_ended, 90, 0.2)
        until("the queue is empty", lambda: yard.queues.waiting() == 0)
        assert proxy.lost >= 20, "too few to say anything"
        assert len(yard.log.runs()) == 2 * len(jobs), "each attempt ran exactly once"
        invariants.check_all(yard)
    finally:
        proxy.close()
    with capsys.disabled():
        print(f"\n{proxy.lost} commits whose answers were lost: nothing lost, nothing doubled")
