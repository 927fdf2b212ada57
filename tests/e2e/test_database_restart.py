"""The database crashes and comes back while everything is at work, or its answers get lost."""

from support import invariants
from support.jobs import Job
from support.proxy import CutsAfterCommit, LosesCommits
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


def test_submissions_survive_the_database(yard, mariadb):
    """While it is away they wait in a queue and have their id already; nothing else is promised meanwhile."""
    yard.configure(queue={"spill": True})
    [process] = yard.start(1)
    url = process.url
    jobs = [Job("ads", f"patient-{i}", 0.1) for i in range(5)]
    documents = [job.document(yard.log.path) for job in jobs]
    before = yard.api.submitted(documents[0])
    mariadb.kill()
    try:
        answers = [yard.api.request("POST", "/v1/jobs", at=url, json=one, timeout=40) for one in documents[1:]]
        assert [answer.status_code for answer in answers] == [202] * 4, [answer.text for answer in answers]
        ids = [answer.json()["id"] for answer in answers]
        for answer, job in zip(answers, jobs[1:]):
            body = answer.json()
            assert body["pending"] and (body["team"], body["key"]) == ("ads", job.key)
            assert answer.headers["location"] == f"/v1/jobs/{body['id']}"
        again = yard.api.request("POST", "/v1/jobs", at=url, json=documents[0], timeout=40)
        assert again.status_code == 202, "it can't know that this one is a job already"
        twice = yard.api.request("POST", "/v1/jobs", at=url, json=documents[1], timeout=40)
        assert twice.status_code == 202
        jobs.append(Job("ads", "beside", 0.1))
        keyless = jobs[-1].document(yard.log.path)
        del keyless["key"]
        beside = yard.api.request(
            "POST", "/v1/jobs", at=url, json=keyless, headers={"Idempotency-Key": "beside"}, timeout=40
        )
        assert beside.status_code == 202 and beside.json()["key"] == "beside"
        wrong = yard.api.request("POST", "/v1/jobs", at=url, json={**keyless, "team": "nobody"}, timeout=40)
        assert wrong.status_code == 422 and wrong.json()["errors"][0]["field"] == "team"
        read = yard.api.request("GET", f"/v1/jobs/{ids[0]}", at=url, timeout=40)
        assert read.status_code == 503 and int(read.headers["retry-after"]) >= 1
    finally:
        mariadb.start()
    for job, id in zip(jobs[1:], [*ids, beside.json()["id"]]):
        receipt = yard.api.wait_receipt("ads", job.key, 30)
        assert (receipt["verdict"], receipt["job"], receipt["source"]) == ("accepted", id, "http")
        assert yard.api.wait_end(id)["state"] == "succeeded"
    assert yard.api.wait_end(before)["state"] == "succeeded"
    assert yard.api.receipt("ads", jobs[0].key)["job"] == before
    until("the queue is empty", lambda: yard.queues.waiting() == 0)
    assert sorted(run.tag for run in yard.log.runs()) == sorted(job.tag for job in jobs), "each ran once"
    assert process.starts == 1
    invariants.check_all(yard)


def test_a_submission_that_went_both_ways_is_one_job(yard, mariadb):
    """The commit is made, but its answer is lost and the database gone for the API: it goes into the queue as well."""
    proxy = CutsAfterCommit(mariadb.port)
    yard.configure(queue={"spill": True})
    yard.migrate()
    direct = yard.database.url
    try:
        yard.environment["YARD__DATABASE__URL"] = direct.replace(f":{mariadb.port}/", f":{proxy.port}/")
        [api] = yard.start(1, arguments=["--roles", "api"])
        document = Job("ads", "both", 0.1).document(yard.log.path)
        answer = yard.api.request("POST", "/v1/jobs", at=api.url, json=document, timeout=40)
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        rows = yard.database.query("SELECT state FROM jobs")
        assert proxy.lost and [row["state"] for row in rows] == ["queued"], "the commit was made"
        assert yard.queues.waiting() == 1
        yard.environment["YARD__DATABASE__URL"] = direct
        [other] = yard.start(1)
        until("the queue is empty", lambda: yard.queues.waiting() == 0, 20)
        assert yard.api.request("GET", f"/v1/jobs/{job}", at=other.url).status_code == 200
        proxy.mend()
        assert yard.api.wait_end(job)["state"] == "succeeded"
        assert len(yard.log.runs()) == 1 and len(yard.database.query("SELECT id FROM jobs")) == 1
        assert yard.api.receipt("ads", "both")["job"] == job
        invariants.check_all(yard)
    finally:
        proxy.close()


def test_nobody_brings_the_id_of_another_job(yard):
    """What stands beside a message names the id of a job that is there: the submission gets an id of its own."""
    yard.configure(queue={"spill": True})
    yard.start(1)
    first = yard.api.submitted(Job("ads", "first", 0.1).document(yard.log.path))
    beside = {"yard-job": first, "yard-door": "http", "yard-request": "r"}
    yard.queues.send(Job("ads", "second", 0.1).document(yard.log.path), **beside)
    second = yard.api.wait_receipt("ads", "second")["job"]
    assert second != first
    assert yard.api.wait_end(first)["state"] == yard.api.wait_end(second)["state"] == "succeeded"
    invariants.check_all(yard)


def test_many_at_once_and_ray_s_own_survive_the_database(yard, mariadb):
    """A batch, and a submission through the Ray Jobs API: each waits in the queue under the id that it was given."""
    yard.configure(queue={"spill": True})
    [process] = yard.start(1)
    url, log = process.url, yard.log.path
    jobs = [Job("ads", f"many-{i}", 0.1) for i in range(30)]
    documents = [job.document(log) for job in jobs]
    keyless = Job("ads", "keyless", 0.1).document(log)
    del keyless["key"]
    before = yard.api.submitted(documents[0])
    command = Job("ads", "by-ray", 0.1).document(log)["entrypoint"]
    ray = {"entrypoint": command, "submission_id": "by-ray", "entrypoint_num_cpus": 1, "metadata": {"yard.team": "ads"}}
    mariadb.kill()
    try:
        wrong = {**documents[1], "key": "wrong", "team": "nobody"}
        batch = {"jobs": [*documents, keyless, wrong]}
        answer = yard.api.request("POST", "/v1/jobs/batch", at=url, json=batch, timeout=40)
        assert answer.status_code == 202, answer.text
        verdicts = answer.json()["verdicts"]
        assert [verdict["verdict"] for verdict in verdicts] == ["pending"] * 31 + ["rejected"]
        assert verdicts[-1]["errors"][0]["field"] == "team"
        taken = yard.api.request("POST", "/api/jobs/", at=url, json=ray, timeout=40)
        assert (taken.status_code, taken.json()["submission_id"]) == (200, "by-ray"), taken.text
        assert yard.api.request("GET", "/api/jobs/by-ray", at=url, timeout=40).status_code == 503
    finally:
        mariadb.start()
    for verdict in verdicts[1:-1]:
        receipt = yard.api.wait_receipt("ads", verdict["key"], 30)
        assert (receipt["verdict"], receipt["job"], receipt["source"]) == ("accepted", verdict["job"], "http")
        assert yard.api.wait_end(verdict["job"], 40)["state"] == "succeeded"
    receipt = yard.api.wait_receipt("ads", "by-ray", 30)
    assert (receipt["verdict"], receipt["source"]) == ("accepted", "ray")
    assert yard.api.wait_end(receipt["job"])["state"] == "succeeded"
    assert yard.api.get("/api/jobs/by-ray")["status"] == "SUCCEEDED"
    assert yard.api.wait_end(before)["state"] == "succeeded"
    assert yard.api.receipt("ads", jobs[0].key)["job"] == before
    until("the queue is empty", lambda: yard.queues.waiting() == 0)
    tags = sorted([*(job.tag for job in jobs), "ads/by-ray", "ads/keyless"])
    assert sorted(run.tag for run in yard.log.runs()) == tags, "each ran once"
    invariants.check_all(yard)
