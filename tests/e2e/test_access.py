"""Who may do what, on the real server: tokens, roles, teams, limits, what is written down."""

import json
import re

import pytest

from support.api import OPERATOR_TOKEN
from support.issuer import Issuer
from support.jobs import Job
from support.wait import until

TEAMS = [{"id": "ads"}, {"id": "search"}]
ROLES = ["viewer", "submitter", "team-admin", "operator"]

# What each operation takes: the least role, and whether it is about one job, receipt or team (then it is a 404 to
# whoever does not see that). Held to the API's own description: an operation that is missing here fails the test.
OPERATIONS = {
    "POST /v1/jobs": ("submitter", False),
    "POST /v1/jobs/batch": ("submitter", False),
    "GET /v1/jobs": ("viewer", False),
    "GET /v1/jobs/{id}": ("viewer", True),
    "GET /v1/jobs/{id}/explain": ("viewer", True),
    "GET /v1/jobs/{id}/history": ("viewer", True),
    "GET /v1/jobs/{id}/events": ("viewer", True),
    "GET /v1/jobs/{id}/logs": ("viewer", True),
    "POST /v1/jobs/{id}/stop": ("submitter", True),
    "GET /v1/receipts/{team}/{key}": ("viewer", True),
    "GET /v1/events": ("viewer", False),
    "GET /v1/teams": ("viewer", False),
    "GET /v1/teams/{team}/explain": ("viewer", True),
    "GET /v1/clusters": ("viewer", False),
    "POST /v1/clusters/{id}/drain": ("operator", False),
    "POST /v1/clusters/{id}/resume": ("operator", False),
    "PUT /v1/catalog": ("operator", False),
    "GET /v1/catalog": ("operator", False),
    "GET /v1/catalog/versions": ("operator", False),
    "GET /v1/deliveries": ("viewer", False),
    "POST /v1/deliveries/retry": ("submitter", False),
    "GET /v1/workload": ("operator", False),
    "GET /v1/audit": ("operator", False),
    "GET /v1/audit/log": ("operator", False),
    "POST /v1/tokens": ("team-admin", False),
    "GET /v1/tokens": ("team-admin", False),
    "DELETE /v1/tokens/{id}": ("team-admin", False),
    "GET /metrics": ("operator", False),  # or a viewer of every team
    "GET /healthz": (None, False),
    "GET /readyz": (None, False),
}
# The Ray Jobs API has no description but Ray's client. Whether it is about one job is told by Ray's own 404.
RAY_OPERATIONS = {
    "GET /api/version": ("viewer", False),
    "POST /api/jobs/": ("submitter", False),
    "GET /api/jobs/": ("viewer", False),
    "GET /api/jobs/{id}": ("viewer", True),
    "GET /api/jobs/{id}/logs": ("viewer", True),
    "DELETE /api/jobs/{id}": ("submitter", True),  # of a job that runs: 500, as Ray does
    "POST /api/jobs/{id}/stop": ("submitter", True),
    "GET /api/packages/gcs/x.zip": ("submitter", False),
    "PUT /api/packages/gcs/x.zip": ("submitter", False),
}
# What a WebSocket begins with.
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "c3dpdGNoeWFyZC10ZXN0cw==",
}
# Anybody may have them: what they show, they ask for with the token that a person gives them.
PAGES = ["/", "/docs", "/openapi.json", "/ui/app.js", "/ui/app.css", "/ui/docs.js", "/ui/docs.css"]


def token(yard, role: str, *teams: str, expires: str = "90d", name: str = "a test") -> str:
    """A new token, made on the command line."""
    scope = [part for team in teams for part in ("--team", team)]
    made = yard.run("token", "create", "--role", role, *scope, "--name", name, "--expires", expires)
    return made.stdout.strip()


def ask(client, method: str, path: str, **kwargs) -> tuple[int, str]:
    """Status and text; of what is no error the status alone, for it may be a stream without an end."""
    with client.request(method, path, stream=True, **kwargs) as answer:
        return answer.status_code, answer.text if answer.status_code >= 400 else ""


def token_id(text: str) -> str:
    """The part of a token that is not secret."""
    return text.split("_")[1]


@pytest.fixture
def two(yard):
    """An installation with two teams and a running job of each."""
    yard.configure(teams=TEAMS, access={"token_refresh_s": 0})
    [process] = yard.start()
    yard.environment["YARD_SERVER"] = process.url
    yard.two = {}
    for team in ("ads", "search"):
        job = Job(team, "job", seconds=300)
        yard.two[team] = yard.api.submitted(job.document(yard.log.path))
    for job in yard.two.values():
        yard.api.wait_state(job, "running")
    return yard


def test_every_operation_keeps_teams_and_roles_apart(two):
    described = two.api.get("/openapi.json")["paths"]
    operations = {f"{method.upper()} {path}" for path, item in described.items() for method in item}
    assert operations == set(OPERATIONS), "an operation is not in the table above"
    clients = {role: two.api.with_token(token(two, role, "ads")) for role in ROLES}
    stranger = two.api.with_token(token(two, "team-admin", "search"))
    for operation, (least, is_of_a_team) in OPERATIONS.items():
        method, path = operation.split(" ")
        template = path
        where = two.two["ads"] if path.startswith("/v1/jobs") else "none"
        path = path.replace("{id}", where).replace("{team}", "ads").replace("{key}", "job")
        if least is None:
            assert two.api.with_token(None).request(method, path).status_code == 200, operation
            continue
        for bad in (None, "yard_0123456789abcdef_" + "0" * 64):
            assert ask(two.api.with_token(bad), method, path)[0] == 401, operation
        if template == "/v1/jobs/{id}/stop":
            assert clients["viewer"].request(method, path).status_code == 403
        else:
            for role, client in clients.items():
                status, _ = ask(client, method, path)
                if ROLES.index(role) < ROLES.index(least):
                    assert status == 403, f"{role}: {operation}: {status}"
                else:
                    assert status not in (401, 403) and status < 500, f"{role}: {operation}: {status}"
        if is_of_a_team:
            status, text = ask(stranger, method, path)
            assert status == 404, f"{operation}: {status}"
            assert json.loads(text)["code"] == "not_found", text
    assert [job["team"] for job in stranger.get("/v1/jobs")["jobs"]] == ["search"]
    assert [team["id"] for team in stranger.get("/v1/teams")["teams"]] == ["search"]
    assert two.api.job(two.two["ads"])["state"] == "running", "nobody of another team has stopped it"
    scraper = two.api.with_token(token(two, "viewer", "*"))
    assert scraper.request("GET", "/metrics").status_code == 200


def test_pages_are_open(two):
    nobody = two.api.with_token(None)
    for page in PAGES:
        assert nobody.request("GET", page).status_code == 200, page


def test_the_ray_api_keeps_teams_and_roles_apart(two):
    clients = {role: two.api.with_token(token(two, role, "ads")) for role in ROLES}
    stranger = two.api.with_token(token(two, "team-admin", "search"))
    nobody = two.api.with_token(None)

    def key_of(team: str) -> str:
        return two.api.job(two.two[team])["key"]

    # Who has one team need not name it.
    body = {"entrypoint": "sleep 60", "submission_id": "mine", "entrypoint_num_cpus": 0.1}
    assert clients["submitter"].request("POST", "/api/jobs/", json=body).status_code == 200
    [native] = two.api.get("/v1/jobs", params={"key_prefix": "mine"})["jobs"]
    assert native["team"] == "ads"
    foreign = {**body, "submission_id": "foreign", "metadata": {"yard.team": "search"}}
    assert clients["submitter"].request("POST", "/api/jobs/", json=foreign).status_code == 403
    assert two.api.receipt("search", "foreign") is None
    for operation, (least, is_of_a_job) in RAY_OPERATIONS.items():
        method, path = operation.replace("{id}", "mine").split(" ")
        assert ask(nobody, method, path)[0] == 401, operation
        if is_of_a_job:
            for headers in ({}, {"X-Yard-Team": "ads"}):
                assert ask(stranger, method, path, headers=headers) == (404, "Job mine does not exist"), operation
        # What changes something is done below, once.
        for role in ROLES if method == "GET" else ROLES[:ROLES.index(least)]:
            status, text = ask(clients[role], method, path)
            if ROLES.index(role) < ROLES.index(least):
                assert status == 403, f"{role}: {operation}: {status} {text}"
            else:
                assert status not in (401, 403) and status < 500, f"{role}: {operation}: {status} {text}"
    tail = "/api/jobs/mine/logs/tail"
    assert ask(nobody, "GET", tail, headers=UPGRADE)[0] == 401
    assert ask(stranger, "GET", tail, headers=UPGRADE) == (404, "Job mine does not exist")
    assert ask(clients["viewer"], "GET", tail, headers=UPGRADE)[0] == 101
    for client, keys in ((stranger, {key_of("search")}), (clients["viewer"], {key_of("ads"), "mine"})):
        assert {job["submission_id"] for job in client.get("/api/jobs/")} == keys
    ray = two.api.with_token(None)
    headers = {"X-Ray-Authorization": f"Bearer {clients['submitter'].token}"}
    assert ray.request("POST", "/api/jobs/mine/stop", headers=headers).json() == {"stopped": True}
    two.api.wait_state(native["id"], "stopped")
    assert clients["submitter"].request("DELETE", "/api/jobs/mine").json() == {"deleted": True}


def test_of_many_submissions_those_for_other_teams_alone_are_refused(two):
    ads = two.api.with_token(token(two, "submitter", "ads"))
    documents = [Job(team, f"of-{team}", seconds=0).document(two.log.path) for team in ("ads", "search")]
    verdicts = ads.request("POST", "/v1/jobs/batch", json={"jobs": documents}).json()["verdicts"]
    assert [verdict["verdict"] for verdict in verdicts] == ["accepted", "forbidden"]
    assert "job" not in verdicts[1] and verdicts[1]["errors"][0]["field"] == "team"
    assert two.api.receipt("search", documents[1]["key"]) is None
    assert two.api.history(verdicts[0]["job"])[0]["actor"].startswith("user:a test (token ")


def test_events_are_those_of_teams_that_one_sees(two):
    ads = two.api.with_token(token(two, "viewer", "ads"))
    last = two.api.submitted(Job("ads", "last", seconds=0).document(two.log.path))
    seen = []
    with ads.request("GET", "/v1/events?after=0", stream=True, timeout=20) as answer:
        for line in answer.iter_lines(chunk_size=1):
            if line.startswith(b"data: "):
                seen.append(json.loads(line[6:]))
                if seen[-1]["job"] == last:
                    break
    # Search's job had been running by then.
    assert {event["team"] for event in seen} == {"ads"}
    assert {event["job"] for event in seen} == {two.two["ads"], last}


def test_a_submission_for_another_team_leaves_nothing_behind(two):
    ads = two.api.with_token(token(two, "submitter", "ads"))
    document = Job("search", "mine", seconds=0).document(two.log.path)
    assert ads.request("POST", "/v1/jobs", json=document).status_code == 403
    assert two.api.receipt("search", document["key"]) is None
    own = ads.submitted(Job("ads", "mine", seconds=0).document(two.log.path))
    first = two.api.history(own)[0]
    assert re.fullmatch(r"user:a test \(token [0-9a-f]{16}\)", first["actor"]), first


def test_an_explanation_names_no_job_of_another_team(yard):
    cluster = yard.process_cluster("local", capacity={"cpu": 1, "memory": "1GiB"})
    yard.configure(teams=[{"id": "ads"}, {"id": "rivals"}], clusters=[cluster])
    [process] = yard.start()
    yard.environment["YARD_SERVER"] = process.url
    running = yard.api.submitted(Job("rivals", "long", seconds=60).document(yard.log.path))
    yard.api.wait_state(running, "running")
    waiting = yard.api.submitted(Job("ads", "waits", seconds=0).document(yard.log.path))
    ads = yard.api.with_token(token(yard, "viewer", "ads"))

    def explained(client):
        found = client.get(f"/v1/jobs/{waiting}/explain")
        return found if found.get("changes") else None

    whole = until("it is explained", lambda: explained(yard.api))
    assert running in json.dumps(whole) and "rivals" in json.dumps(whole), "the operator sees what it waits for"
    told = json.dumps(until("it is explained", lambda: explained(ads)))
    assert running not in told, told
    assert "rivals" not in told and "a job of another team" in told, told
    for path in (f"/v1/jobs/{waiting}", f"/v1/jobs/{waiting}/history", "/v1/teams/ads/explain", "/v1/teams", "/v1/jobs"):
        text = json.dumps(ads.get(path))
        assert running not in text and "rivals" not in text, path


def test_tokens_are_made_listed_and_end(two):
    admin = token(two, "team-admin", "ads", name="the admin")
    two.environment["YARD_TOKEN"] = admin
    made = token(two, "submitter", "ads", name="nightly")
    assert two.run("list", environment={"YARD_TOKEN": made}).stdout
    for role, teams in (("viewer", ["search"]), ("viewer", ["*"]), ("operator", [])):
        scope = [part for team in teams for part in ("--team", team)]
        done = two.run("token", "create", "--role", role, *scope, "--name", "x", check=False)
        assert done.returncode == 9 and not done.stdout, done.stderr
    listed = two.run("token", "list").stdout
    assert "nightly" in listed and token_id(made) in listed and made not in listed
    assert made.split("_")[2] not in json.dumps(two.api.get("/v1/tokens"))
    two.run("token", "revoke", token_id(made))
    done = two.run("list", environment={"YARD_TOKEN": made}, check=False)
    assert done.returncode == 9 and "YARD_TOKEN" in done.stderr and made not in done.stderr
    short = token(two, "viewer", "ads", expires="1s")
    client = two.api.with_token(short)
    until("it has expired", lambda: client.request("GET", "/v1/jobs").status_code == 401, 10)
    file = two.folder / "token"
    file.write_text(admin + "\n")
    assert two.run("--token-file", str(file), "list", environment={"YARD_TOKEN": ""}, check=False).returncode == 2
    del two.environment["YARD_TOKEN"]
    assert two.run("--token-file", str(file), "list").stdout
    used = next(t for t in two.api.get("/v1/tokens")["tokens"] if t["id"] == token_id(admin))
    assert used["last_used_at"] >= used["created_at"]
    rows = two.database.query("SELECT * FROM api_tokens")
    assert len(rows) == 3 and all(made.split("_")[2] not in str(row) for row in rows)
    logs = "".join(process.log_text() for process in two.processes)
    assert OPERATOR_TOKEN not in logs and made.split("_")[2] not in logs


def test_the_first_token_comes_from_whoever_has_the_database(yard):
    yard.configure(teams=TEAMS)
    yard.config["access"] = {}
    from support import config as configs

    yard.config_file.write_text(configs.toml(yard.config))
    yard.migrate()
    arguments = ["token", "create", "--config", str(yard.config_file), "--role", "operator", "--name", "first"]
    first = yard.run(*arguments).stdout.strip()
    [process] = yard.start()
    assert yard.api.request("GET", "/v1/jobs").status_code == 401, "the operator token is not configured here"
    assert yard.api.with_token(first).request("GET", "/v1/audit").status_code == 200
    lines = yard.api.with_token(first).get("/v1/audit/log")["lines"]
    assert [(line["action"], line["address"]) for line in lines] == [("token.create", "-")]


def test_tokens_of_a_trusted_issuer(yard):
    with Issuer() as issuer:
        section = issuer.section(
            roles={"dev": "submitter", "ops": "operator"}, role_claim="realm.roles", teams_claim="groups"
        )
        yard.configure(teams=TEAMS, access={"issuer": [section]})
        yard.start()

        def status(text: str, path: str = "/v1/jobs") -> int:
            return yard.api.with_token(text).request("GET", path).status_code

        def claims(**changes) -> dict:
            return {**issuer.claims("ann"), "realm": {"roles": ["dev"]}, "groups": ["ads"], **changes}

        for algorithm in ("RS256", "ES256", "EdDSA"):
            assert status(issuer.sign(claims(), algorithm)) == 200, algorithm
        assert status(issuer.sign(claims()), "/v1/audit") == 403
        assert status(issuer.sign(claims(realm={"roles": ["ops"]})), "/v1/audit") == 200
        assert status(issuer.sign(claims(realm={"roles": ["boss"]}))) == 403, "no role"
        assert status(issuer.sign(claims(groups=[]))) == 403, "no team"
        now = issuer.now()
        refused = {
            "expired": issuer.sign(claims(exp=now - 120)),
            "not yet": issuer.sign(claims(nbf=now + 600)),
            "another audience": issuer.sign(claims(aud="other")),
            "another issuer": issuer.sign(claims(iss="https://evil.example")),
            "no end": issuer.sign({k: v for k, v in claims().items() if k != "exp"}),
            "nobody": issuer.sign({k: v for k, v in claims().items() if k != "sub"}),
            "not signed": issuer.unsigned(claims()),
            "a shared secret": issuer.by_public_key_as_secret(claims()),
            "another's key under our name": issuer.sign(claims(), stolen=True),
            "changed": issuer.tampered(claims(), claims(groups=["search"])),
        }
        for why, text in refused.items():
            assert status(text) == 401, why
        assert status(issuer.sign(claims(exp=now - 20))) == 200, "within the skew"
        document = Job("ads", "jwt", seconds=0).document(yard.log.path)
        job = yard.api.with_token(issuer.sign(claims())).submitted(document)
        assert yard.api.history(job)[0]["actor"] == "user:ann (corp)"
        asked = issuer.asked
        for n in range(5):
            assert status(issuer.sign(claims(), kid=f"made-up-{n}")) == 401
        assert issuer.asked <= asked + 1, "made-up keys don't make the server ask again and again"
        issuer.down = True
        assert status(issuer.sign(claims())) == 200, "known keys are good while the issuer is away"


def test_callers_that_ask_too_often_are_held_back(yard):
    yard.configure(teams=TEAMS, access={"requests_per_minute": 60, "requests_burst": 20})
    [process] = yard.start()
    yard.environment["YARD_SERVER"] = process.url
    one = yard.api.with_token(token(yard, "viewer", "ads"))
    answers = [one.request("GET", "/v1/jobs") for _ in range(30)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert [a.status_code for a in answers[:20]] == [200] * 20 and refused
    assert refused[0].json()["code"] == "too_many_requests" and 1 <= int(refused[0].headers["Retry-After"]) <= 60
    assert yard.api.with_token(token(yard, "viewer", "ads")).request("GET", "/v1/jobs").status_code == 200


def test_what_is_changed_is_written_down(two):
    submitter = token(two, "submitter", "ads", name="ann")
    client = two.api.with_token(submitter)
    job = client.submitted(Job("ads", "noted", seconds=30).document(two.log.path))
    assert client.request("POST", "/v1/clusters/local/drain").status_code == 403
    client.stop(job)
    two.run("drain", "local")
    two.run("resume", "local")
    two.run("token", "revoke", token_id(submitter))
    lines = two.api.get("/v1/audit/log", params={"limit": 7})["lines"]
    who = f"ann (token {token_id(submitter)})"
    told = [(line["actor"], line["action"], line["result"]) for line in lines]
    assert told == [
        ("bootstrap", "token.revoke", "ok"),
        ("bootstrap", "cluster.resume", "ok"),
        ("bootstrap", "cluster.drain", "ok"),
        (who, "job.stop", "ok"),
        (who, "cluster.drain", "forbidden"),
        (who, "job.submit", "ok"),
        ("bootstrap", "token.create", "ok"),
    ]
    assert job in lines[3]["target"] and job in lines[5]["target"]
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    shown = two.run("audit-log", "--limit", "5").stdout
    assert "cluster.drain" in shown and "forbidden" in shown
    assert two.run("audit-log", environment={"YARD_TOKEN": submitter}, check=False).returncode == 9


def test_without_access_only_on_loopback(yard):
    yard.configure(teams=TEAMS, access={"required": False}, server={"listen": "0.0.0.0:1"})
    done = yard.run("check-config", "--config", str(yard.config_file), check=False)
    assert done.returncode == 2 and "access.required" in done.stderr, done.stderr
    yard.configure(teams=TEAMS, access={"required": False})
    yard.start()
    assert yard.api.with_token(None).request("GET", "/v1/jobs").status_code == 200
    shown = yard.run("check-config", "--config", str(yard.config_file)).stdout
    assert "no token is needed" in shown and OPERATOR_TOKEN not in shown
