"""What can't be accepted: it gets a receipt that says why, goes to the dead-letter queue, and blocks nobody."""

import json

import pytest

from support import invariants
from support.jobs import Job
from support.wait import until


def poison(good: dict) -> list[tuple[str, str, str]]:
    """Bodies, with the key of the receipt ('' if it is the message's id), and a code that it must name."""

    def changed(key: str, **fields) -> str:
        return json.dumps({**good, "key": key, **fields})

    return [
        ("this is no JSON", "", "invalid"),
        ('{"v": 1, "team": "ads", "team": "ads"}', "", "invalid"),
        ("[1, 2, 3]", "", "invalid"),
        ("{}", "", "missing"),
        (changed("old", v=2), "old", "invalid"),
        (changed("types", entrypoint=7, resources="all", priority="high"), "types", "invalid"),
        (changed("typo", entrypont="x"), "typo", "unknown_field"),
        (changed("nobody", team="nobody"), "nobody", "unknown_team"),
        (changed("foreign", team="ml"), "foreign", "team_not_allowed"),
        (changed("huge", resources={"cpu": 10_000}), "huge", "never_fits"),
        (changed("nowhere", clusters={"only": ["atlantis"]}), "nowhere", "never_fits"),
        (changed("nul", entrypoint="echo \0"), "nul", "invalid"),
        (changed("with space \u2603"), "", "invalid"),
        ('{"v": 1, "team": "ads", "key": "half", "entrypoint": "\\ud800"}', "", "invalid"),
        ("x" * 300_000, "", "invalid"),
        ("{" * 50_000, "", "invalid"),
        (changed("fat", metadata={"k": "y" * 300_000}), "fat", "too_large"),
    ]


@pytest.fixture
def guarded(yard):
    """Two teams, of which the queue may submit for one only."""
    teams = [{"id": "ads"}, {"id": "ml"}]
    yard.configure(teams=teams, queue={"teams": ["ads"]})
    yard.start(1)
    return yard


def test_poison_gets_receipts_and_the_queue_goes_on(guarded):
    """Each is judged with its reason; good messages before, between and after them run."""
    yard = guarded
    good = Job("ads", "template").document(yard.log.path)
    sent = []
    for i, (body, key, code) in enumerate(poison(good)):
        yard.queues.send(Job("ads", f"good-{i}", 0.1, resources={"cpu": 0.5}).document(yard.log.path))
        message = yard.queues.send(body)
        sent.append((body, key or f"sqs:{message}", code))
    until("the queue is empty", lambda: yard.queues.waiting() == 0, 30)
    for body, key, code in sent:
        check_receipt(yard, body, key, code)
    letters = yard.queues.dead_letters()
    assert {letter["body"] for letter in letters} == {body for body, _, _ in sent}
    for letter in letters:
        assert letter["yard.reason"], f"no reason: {letter['body'][:100]}"

    def all_ended() -> bool:
        rows = yard.database.query("SELECT state FROM jobs")
        return [row["state"] for row in rows] == ["succeeded"] * len(sent)

    until("the good ones have succeeded", all_ended, 30)
    invariants.check_all(yard)


def check_receipt(yard, body: str, key: str, code: str) -> None:
    """The receipt is there, says rejected, and names the code and a place that can be mended."""
    team = claimed_team(body)
    receipt = yard.api.receipt(team, key)
    assert receipt is not None, f"no receipt for {team}/{key}: {body[:100]}"
    assert receipt["verdict"] == "rejected", receipt
    codes = {error["code"] for error in receipt["errors"]}
    assert code in codes, f"{body[:100]}: {receipt['errors']}"
    assert all(error["message"] for error in receipt["errors"])


def claimed_team(body: str) -> str:
    """The team under which a rejected submission is kept: as it stands in it, '-' if it can't be read."""
    try:
        document = json.loads(body, object_pairs_hook=lambda pairs: pairs if len(dict(pairs)) < len(pairs) else dict(pairs))
    except (ValueError, RecursionError):
        return "-"
    return document.get("team", "-") if isinstance(document, dict) and "\\ud800" not in body else "-"


def test_every_error_of_a_document_is_reported_at_once(guarded):
    """Four mistakes in four fields: one receipt with four errors."""
    yard = guarded
    document = {
        "v": 1,
        "team": "nobody",
        "key": "four",
        "entrypoint": "",
        "resources": {"cpu": -1},
        "colour": "red",
    }
    yard.queues.send(document)
    receipt = until("there is a receipt", lambda: yard.api.receipt("nobody", "four"))
    fields = {error["field"] for error in receipt["errors"]}
    assert fields == {"team", "entrypoint", "resources.cpu", "colour"}, receipt["errors"]
    answer = yard.api.request("POST", "/v1/jobs", json=document)
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    assert {error["field"] for error in answer.json()["errors"]} == fields


def test_the_same_poison_again_is_harmless(guarded):
    """Redelivered or sent again: the same verdict, and a mended document under the same key is accepted."""
    yard = guarded
    good = Job("ads", "mended", 0.1).document(yard.log.path)
    bad = {**good, "resources": {"cpu": 10_000}}
    yard.queues.send(bad)
    yard.queues.send(bad)
    until("both are taken in", lambda: yard.queues.waiting() == 0 and yard.api.receipt("ads", "mended"))
    assert yard.api.receipt("ads", "mended")["verdict"] == "rejected"
    yard.queues.send(good)

    def accepted():
        receipt = yard.api.receipt("ads", "mended")
        return receipt if receipt["verdict"] == "accepted" else None

    receipt = until("the mended one is accepted", accepted)
    assert yard.api.wait_end(receipt["job"])["state"] == "succeeded"
    assert [letter["body"] for letter in yard.queues.dead_letters()] == [json.dumps(bad)] * 2
    invariants.check_all(yard)
