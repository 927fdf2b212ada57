"""A policy is judged on what really arrived: `yard simulate --history` against a server that ran it."""

import json
from datetime import datetime, timedelta, timezone

from support import invariants
from support.config import toml
from support.jobs import Job
from support.wait import until

ADS, SEARCH = 18, 12  # jobs of each team


def moment(at: datetime) -> str:
    """As --history takes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_new_quota_is_judged_on_what_really_arrived(yard):
    """Both sides count what the store holds; under a smaller quota its team waits longer, the other does not."""
    yard.configure(
        teams=[{"id": "ads", "quota": {"cpu": 8}}, {"id": "search"}],
        clusters=[yard.process_cluster("east"), yard.process_cluster("west")],
    )
    [process] = yard.start(1)
    yard.environment["YARD_SERVER"] = process.url
    began = datetime.now(timezone.utc) - timedelta(seconds=5)
    counts = {"ads": ADS, "search": SEARCH}
    sent = [Job(team, f"job-{i:02}", 0.5) for team, count in counts.items() for i in range(count)]
    for job in sent:
        yard.api.submitted(job.document(yard.log.path))
    ended = "SELECT COUNT(*) FROM jobs WHERE state = 'succeeded'"
    until("all jobs have succeeded", lambda: yard.database.value(ended) == len(sent), 60, 0.2)

    new = yard.folder / "new.toml"
    new.write_text(toml({"team": [{"id": "ads", "quota": {"cpu": 1}}, {"id": "search"}]}))
    history = f"{moment(began)}..{moment(datetime.now(timezone.utc) + timedelta(seconds=5))}"
    command = ("simulate", "--history", history, "--policy", str(new))
    both = json.loads(yard.run(*command, "--report", "json").stdout)
    for side in (both["runs"]["present"], both["runs"]["new"]):
        jobs = side["jobs"]
        assert jobs["arrived"] == jobs["succeeded"] == len(sent), jobs
        assert {team["team"]: team["waits"]["jobs"] for team in side["teams"]} == counts
        assert side["audit"]["violations"] == 0
    longest = {name: {t["team"]: t["waits"]["max_s"] for t in side["teams"]} for name, side in both["runs"].items()}
    assert longest["new"]["ads"] > longest["present"]["ads"] + 10, f"one at a time, each with its launch: {longest}"
    assert longest["new"]["search"] <= longest["present"]["search"] + 1, longest

    text = yard.run(*command).stdout
    assert f"{len(sent)} jobs, present → new" in text and "===== present =====" in text and "===== new =====" in text
    page = yard.folder / "both.html"
    yard.run(*command, "--report", "html", "--out", str(page))
    assert "<h2>present</h2>" in page.read_text() and "<h2>new</h2>" in page.read_text()
    before = "2020-01-01T00:00:00Z..2020-01-02T00:00:00Z"
    nothing = yard.run("simulate", "--history", before, "--policy", str(new), check=False)
    assert nothing.returncode == 2 and "nothing arrived" in nothing.stderr
    invariants.check_all(yard)
