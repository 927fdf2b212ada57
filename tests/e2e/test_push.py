"""Verdicts and ends are pushed to producers: at least once, in order per job, whatever dies."""

import json
import random
import time

import pytest

from support import config as configs
from support import invariants
from support.jobs import Job
from support.killer import Killer
from support.receiver import Receiver, new_secret
from support.wait import always, until

# Quick loops and short leases, to private addresses without TLS.
PUSH = {
    "allow": ["127.0.0.1"],
    "allow_http": True,
    "poll_interval_ms": 50,
    "election_interval_ms": 200,
    "lease_ttl_ms": 2000,
    "lease_margin_ms": 500,
}
WHOLE = ["accepted", "succeeded"]


@pytest.fixture
def receiver():
    """A receiver that takes everything."""
    with Receiver() as receiver:
        yield receiver


def hook(yard, receiver: Receiver, name: str = "hook", path: str = "/", **keys) -> dict:
    """A `[[team.push]]` to this receiver, with a secret of its own in the environment of processes started later."""
    variable = f"SECRET_{name.upper()}"
    yard.environment.setdefault(variable, new_secret())
    return {
        "name": name,
        "url": receiver.url + path,
        "secret_env": variable,
        "backoff_max_s": 1,
        "timeout_s": 5,
        **keys,
    }


def secret(yard, name: str = "hook") -> str:
    """Its secret."""
    return yard.environment[f"SECRET_{name.upper()}"]


def submit(yard, team: str, *keys: str, **kwargs) -> list[str]:
    """Short jobs under these keys; their ids."""
    return [yard.api.submitted(Job(team, key, seconds=0.1, **kwargs).document(yard.log.path)) for key in keys]


def deliveries(yard, **params) -> list[dict]:
    """What has not arrived."""
    return yard.api.get("/v1/deliveries", params=params)["deliveries"]


def told(receiver: Receiver, keys, events=WHOLE, path: str = "/") -> bool:
    """Whether the receiver has these events of each of these keys, in this order."""
    return {key: receiver.by_key(path).get(key) for key in keys} == dict.fromkeys(keys, list(events))


def fifo(queues) -> str:
    """A queue for results that keeps order; it goes with the test's others."""
    name = queues.url.rsplit("/", 1)[1].replace("submissions", "results") + ".fifo"
    return queues.client.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"]


def received(queues, url: str) -> list[dict]:
    """Everything in a queue, in order; it is emptied."""
    found = []
    while True:
        answer = queues.client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
        )
        messages = answer.get("Messages", [])
        if not messages:
            return found
        for message in messages:
            queues.client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        found += messages


def all_received(yard, url: str, count: int) -> list[dict]:
    """The messages that a queue is to get, and what else is there once nothing waits to be sent. A job has ended a moment
    before its end becomes a delivery, so that there is none yet does not say that all has been sent."""
    found: list[dict] = []

    def enough() -> bool:
        found.extend(received(yard.queues, url))
        return len(found) >= count

    until(f"{count} messages have come", enough)
    until("nothing waits any more", lambda: not deliveries(yard))
    return found + received(yard.queues, url)


def test_verdicts_and_ends_arrive_signed_and_in_order(yard, receiver):
    """Accepted, rejected, conflict and every end, each with what it is about; whatever door it came through."""
    yard.configure(teams=[{"id": "ads", "push": [hook(yard, receiver)]}], push=PUSH)
    yard.start(1)
    log = yard.log.path
    [good] = submit(yard, "ads", "good")
    failed = yard.api.submitted(Job("ads", "bad", 0.1, "fail", max_retries=0).document(log))
    stopped = yard.api.submitted(Job("ads", "long", 60).document(log))
    yard.api.stop(stopped)
    refused = yard.api.submit({"v": 1, "team": "ads", "key": "wrong", "entrypoint": "true", "resources": {"cpu": -1}})
    assert refused.status_code == 422
    clash = yard.api.submit(Job("ads", "good", seconds=9).document(log))
    assert clash.status_code == 409
    message = yard.queues.send({"v": 1, "team": "ads", "key": "over-sqs"})
    yard.queues.send(Job("other", "no-team").document(log))
    for job in (good, failed, stopped):
        yard.api.wait_end(job)
    until("all has arrived", lambda: len(receiver.once()) == 9)
    by_key = receiver.by_key()
    # A conflict comes when it comes, but after the verdict.
    assert by_key["good"][0] == "accepted" and sorted(by_key.pop("good")) == ["accepted", "conflict", "succeeded"]
    assert by_key == {
        "bad": ["accepted", "failed"],
        "long": ["accepted", "stopped"],
        "wrong": ["rejected"],
        "over-sqs": ["rejected"],
    }
    bodies = {(a.body["key"], a.body["event"]): a.body for a in receiver.once()}
    end = bodies["bad", "failed"]
    assert (end["type"], end["job"], end["team"], end["outcome"]) == ("end", failed, "ads", "failed")
    assert end["failure"]["class"] == "user_error" and end["failure"]["exit_code"] not in (0, None)
    assert end["seq"] == yard.api.history(failed)[-1]["seq"]
    assert bodies["good", "conflict"]["job"] == good
    rejected = bodies["over-sqs", "rejected"]
    assert (rejected["source"], rejected["message_id"]) == ("sqs:submissions", message)
    assert rejected["errors"][0]["field"] == "entrypoint" and "job" not in rejected
    for arrival in receiver.taken():
        assert arrival.is_signed_by(secret(yard)) and len(arrival.signatures) == 1
        assert not arrival.is_signed_by(new_secret())
        assert abs(arrival.timestamp - time.time()) < 60
    until("nothing waits any more", lambda: not deliveries(yard))
    lines = yard.api.request("GET", "/metrics").text
    assert 'yard_delivery_attempts_total{subscription="ads/hook",result="arrived"} 9' in lines
    logs = yard.processes[0].log_text()
    assert secret(yard) not in logs and secret(yard).removeprefix("whsec_") not in logs
    invariants.check_all(yard)


def test_a_result_queue_keeps_the_order_of_each_job(yard):
    """A FIFO queue: message group and deduplication id; a subscription for ends alone beside it on a standard queue."""
    ordered = fifo(yard.queues)
    plain = yard.queues.client.create_queue(QueueName=ordered.rsplit("/", 1)[1].removesuffix(".fifo"))["QueueUrl"]
    sqs = {"endpoint": yard.queues.server.endpoint, "region": "us-east-1", "backoff_max_s": 1}
    push = [{"name": "ordered", "sqs": ordered, **sqs}, {"name": "ends", "sqs": plain, "events": ["ends"], **sqs}]
    yard.configure(teams=[{"id": "ads", "push": push}], push=PUSH)
    yard.start(1)
    keys = [f"job-{n}" for n in range(6)]
    jobs = submit(yard, "ads", *keys)
    for job in jobs:
        yard.api.wait_end(job)
    messages = all_received(yard, ordered, len(jobs) * len(WHOLE))
    events: dict[str, list[str]] = {}
    for message in messages:
        body = json.loads(message["Body"])
        events.setdefault(body["job"], []).append(body["event"])
        assert message["Attributes"]["MessageGroupId"] == body["job"]
        attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
        assert attributes["yard-subscription"] == "ads/ordered"
        assert attributes["yard-id"] == message["Attributes"]["MessageDeduplicationId"]
        assert attributes["yard-id"].endswith(f"_{body['id']}")
    assert events == dict.fromkeys(jobs, WHOLE)
    ends = [json.loads(message["Body"]) for message in all_received(yard, plain, len(jobs))]
    assert sorted(body["job"] for body in ends) == sorted(jobs) and {body["type"] for body in ends} == {"end"}
    for url in (ordered, plain):
        yard.queues.client.delete_queue(QueueUrl=url)


def test_a_receiver_that_was_down_gets_everything(yard, receiver):
    """Nothing listens, then something says 500, then all is well: each arrives, in order."""
    receiver.down()
    yard.configure(teams=[{"id": "ads", "push": [hook(yard, receiver)]}], push=PUSH)
    yard.start(1)
    keys = [f"job-{n}" for n in range(5)]
    for job in submit(yard, "ads", *keys):
        yard.api.wait_end(job)
    # The last end becomes a delivery a moment after it has ended.
    until("all are to be delivered", lambda: len(deliveries(yard)) == 10)
    until("attempts have failed", lambda: any(d["attempts"] > 1 for d in deliveries(yard)))
    waiting = deliveries(yard)
    assert len(waiting) == 10 and {d["state"] for d in waiting} == {"pending"}
    assert "refused" in next(d["last_error"] for d in waiting if d["attempts"])
    receiver.answer = lambda arrival, nth: 500 if nth < 4 else 200
    receiver.up()
    until("all has arrived", lambda: told(receiver, keys), 30)
    assert sum(arrival.status == 500 for arrival in receiver.arrivals) == 4
    until("nothing waits any more", lambda: not deliveries(yard))
    assert len(receiver.taken()) == len(receiver.once()) == 10, "what arrived is not sent again"


def test_after_the_last_attempt_it_is_dead_and_sent_again_by_hand(yard, receiver):
    """The job's next event goes on; `yard deliveries` shows what was given up and sends it again. 410 is final at once."""
    gone = {"verdict": 503, "end": 410}
    receiver.answer = lambda arrival, nth: gone[arrival.body["type"]] if arrival.path == "/" else 200
    push = [hook(yard, receiver, attempts_max=3), hook(yard, receiver, "other", "/other")]
    yard.configure(teams=[{"id": "ads", "push": push}, {"id": "search"}], push=PUSH)
    [process] = yard.start(1)
    [job] = submit(yard, "ads", "one")
    yard.api.wait_end(job)
    dead = until("both are dead", lambda: len(found := deliveries(yard, state="dead")) == 2 and found)
    assert [(d["attempts"], d["body"]["event"]) for d in dead] == [(3, "accepted"), (1, "succeeded")]
    assert "503" in dead[0]["last_error"] and "410" in dead[1]["last_error"]
    # While the other is given up: the team's other subscription has not waited.
    until("it has arrived at the other", lambda: told(receiver, ["one"], path="/other"))
    yard.environment["YARD_SERVER"] = process.url
    listed = yard.run("deliveries", "list", "--state", "dead", "--team", "ads").stdout
    assert "one accepted" in listed and "503" in listed
    gone.update(verdict=200, end=200)
    first = str(dead[0]["id"])
    assert "1 sent again" in yard.run("deliveries", "retry", "--team", "ads", "--subscription", "hook", first).stdout
    until("it has arrived", lambda: receiver.by_key() == {"one": ["accepted"]})
    assert yard.run("deliveries", "retry", "--team", "ads", "--json").stdout.split() == (
        '{ "resent": 1, "more": false }'.split()
    )
    until("both have arrived", lambda: told(receiver, ["one"]))
    until("that is known here, too", lambda: not deliveries(yard) and not deliveries(yard, state="dead"))
    assert "everything has arrived" in yard.run("deliveries", "list").stdout
    viewer = yard.run("token", "create", "--role", "viewer", "--team", "search", "--name", "v", "--expires", "1d")
    stranger = yard.api.with_token(viewer.stdout.strip())
    assert stranger.request("POST", "/v1/deliveries/retry?team=ads").status_code == 403
    lines = [line for line in yard.api.get("/v1/audit/log")["lines"] if line["action"] == "delivery.retry"]
    assert [(line["result"]) for line in lines] == ["forbidden", "ok", "ok"]
    assert lines[1]["target"] == "deliveries of team ads"


def test_a_crash_between_call_and_record_sends_again(yard, receiver):
    """The receiver has the message, the server dies before it knows: another one sends it again under the same id."""
    # Only the crash is to end the call: neither its time nor a lease that was renewed late.
    push = [hook(yard, receiver, timeout_s=60)]
    yard.configure(teams=[{"id": "ads", "push": push}], push={**PUSH, "lease_ttl_ms": 8000})
    [process] = yard.start(1)
    receiver.speaks.clear()
    [job] = submit(yard, "ads", "one")
    until("it was called", lambda: receiver.arrivals)
    yard.api.wait_end(job)
    process.kill()
    receiver.speaks.set()
    process.start()
    yard.wait_ready()
    until("all has arrived", lambda: told(receiver, ["one"]), 40)
    until("nothing waits any more", lambda: not deliveries(yard))
    first, again = [arrival for arrival in receiver.taken() if arrival.body["event"] == "accepted"]
    assert (first.id, first.raw) == (again.id, again.raw)
    assert len(receiver.once()) == 2


def test_nothing_is_lost_while_servers_are_killed(yard, receiver):
    """Three replicas, one of which dies every second; a receiver that fails at random: each event arrives, in order."""
    dice = random.Random(7)
    receiver.answer = lambda arrival, nth: dice.choice([200, 200, 200, 500])
    yard.configure(teams=[{"id": "ads", "push": [hook(yard, receiver, attempts_max=1000)]}], push=PUSH)
    yard.start(3)
    keys = [f"job-{n}" for n in range(40)]
    with Killer(yard, seed=11) as killer:
        for key in keys:
            submit(yard, "ads", key)
            time.sleep(0.1)
        until("some have been killed", lambda: killer.kills >= 6, 30)
    killer.check()
    until("all has arrived", lambda: told(receiver, keys), 60)
    until("nothing waits any more", lambda: not deliveries(yard), 30)
    assert len(receiver.once()) == 80
    invariants.check_all(yard)


def test_a_slow_receiver_holds_up_no_other_team(yard, receiver):
    """One team's receiver takes messages and never answers: the other team's arrive at once."""
    with Receiver() as slow:
        slow.speaks.clear()
        teams = [
            {"id": "ads", "push": [hook(yard, slow, "slow", in_flight_max=2, timeout_s=60)]},
            {"id": "search", "push": [hook(yard, receiver, "quick")]},
        ]
        # A lease that is lost would end the calls that the slow one holds, and begin them anew.
        yard.configure(teams=teams, push={**PUSH, "lease_ttl_ms": 30000})
        yard.start(1)
        keys = [f"job-{n}" for n in range(8)]
        submit(yard, "ads", *keys)
        until("the slow one is full", lambda: len(slow.arrivals) == 2)
        began = time.monotonic()
        for job in submit(yard, "search", *keys):
            yard.api.wait_end(job)
        until("the other has everything", lambda: told(receiver, keys))
        assert time.monotonic() - began < 15
        always("no more than two calls are under way", lambda: len(slow.arrivals) == 2, 0.5)
        slow.speaks.set()
        until("the slow one has everything, too", lambda: told(slow, keys))


def test_secrets_are_replaced_without_a_gap(yard, receiver):
    """Two secrets at once, by apply; then the new one alone. A secret in a file may change without an apply."""
    file = yard.folder / "secret"
    old, new, newest = new_secret(), new_secret(), new_secret()
    file.write_text(old + "\n")
    yard.environment |= {"NEW_SECRET": new}

    def team(**keys) -> list[dict]:
        return [{"id": "ads", "push": [{"name": "hook", "url": receiver.url + "/", **keys}]}]

    yard.configure(teams=team(secret_file=str(file)), push=PUSH)
    [process] = yard.start(1)

    def sent(key: str) -> list:
        yard.api.wait_end(submit(yard, "ads", key)[0])
        until("it has arrived", lambda: told(receiver, [key]))
        return [arrival for arrival in receiver.taken() if arrival.body["key"] == key]

    def apply(**keys) -> str:
        path = yard.folder / "catalog.toml"
        path.write_text(configs.toml({"team": team(**keys), "cluster": yard.config["cluster"]}))
        done = yard.run("apply", str(path), "--yes", "--server", process.url)
        return done.stdout + done.stderr

    assert all(a.is_signed_by(old) and not a.is_signed_by(new) for a in sent("first"))
    shown = apply(secret_file=str(file), second_secret_env="NEW_SECRET")
    assert "team ads: push.hook" in shown and "NEW_SECRET" in shown and new not in shown
    until("both are in use", lambda: all(len(a.signatures) == 2 for a in sent(f"second-{time.monotonic()}")))
    both = sent("both")
    assert all(a.is_signed_by(old) and a.is_signed_by(new) for a in both)
    apply(secret_env="NEW_SECRET")
    until("only one is in use", lambda: all(len(a.signatures) == 1 for a in sent(f"third-{time.monotonic()}")))
    assert all(a.is_signed_by(new) and not a.is_signed_by(old) for a in sent("last"))
    apply(secret_file=str(file))
    file.write_text(newest)
    until("the file's new content is in use", lambda: sent(f"file-{time.monotonic()}")[-1].is_signed_by(newest), 60)


def test_what_is_not_allowed_is_not_called(yard, receiver):
    """By default a private address is not called, and the delivery says why; nor is a redirect followed."""
    push = [hook(yard, receiver, attempts_max=2)]
    yard.configure(teams=[{"id": "ads", "push": push}], push={**PUSH, "allow": ["10.0.0.0/8"]})
    [process] = yard.start(1)
    yard.api.wait_end(submit(yard, "ads", "one")[0])
    dead = until("both are dead", lambda: len(found := deliveries(yard, state="dead")) == 2 and found)
    assert "127.0.0.1 is a private or special address" in dead[0]["last_error"]
    assert receiver.arrivals == []
    assert process.terminate() == 0
    receiver.answer = lambda arrival, nth: 302
    yard.configure(teams=[{"id": "ads", "push": push}], push=PUSH)
    process.start()
    yard.wait_ready()
    assert yard.api.request("POST", "/v1/deliveries/retry?team=ads").json() == {"resent": 2, "more": False}
    dead = until("they are dead again", lambda: len(found := deliveries(yard, state="dead")) == 2 and found)
    assert "redirects are not followed" in dead[0]["last_error"]


def test_subscriptions_come_and_go_with_the_catalog(yard, receiver):
    """A subscription gets what is submitted right after it was applied; one that is taken out is given up."""
    yard.configure(teams=[{"id": "ads"}], push=PUSH)
    variable = hook(yard, receiver)["secret_env"]
    assert variable in yard.environment
    processes = yard.start(2)

    def apply(push: list[dict]) -> None:
        path = yard.folder / "catalog.toml"
        team = {"id": "ads"} | ({"push": push} if push else {})
        path.write_text(configs.toml({"team": [team], "cluster": yard.config["cluster"]}))
        yard.run("apply", str(path), "--yes", "--server", processes[0].url)

    submit(yard, "ads", "before")
    apply([hook(yard, receiver)])
    keys = ["after-1", "after-2"]
    for job in submit(yard, "ads", *keys):
        yard.api.wait_end(job)
    until("all has arrived", lambda: told(receiver, keys))
    receiver.down()
    yard.api.wait_end(submit(yard, "ads", "late")[0])
    until("they wait", lambda: len(deliveries(yard, state="pending")) == 2)
    apply([])
    dead = until("they are given up", lambda: len(found := deliveries(yard, state="dead")) == 2 and found, 30)
    assert "taken out of the catalog" in dead[0]["last_error"]
