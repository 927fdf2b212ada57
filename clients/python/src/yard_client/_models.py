"""The documents of the API. Generated from its OpenAPI document by generate.py: do not edit."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from typing_extensions import NotRequired, TypedDict


class AheadView(TypedDict):
    """
    Some who go first.
    """

    code: str
    """
    `higher_class`, `higher_priority`, `older`, `less_share`, `its_turn` or `reserved`.
    """
    jobs: int
    """
    How many were seen.
    """
    message: str
    """
    For people.
    """
    team: str
    """
    Whose jobs.
    """


class Alive(TypedDict):
    """
    The process is alive.
    """

    alive: bool
    """
    Always true.
    """


class AmountView(TypedDict):
    """
    An amount of one resource.
    """

    amount: float
    """
    How much: memory in bytes, everything else in units.
    """
    resource: str
    """
    `cpu`, `gpu`, `memory`, `jobs`, or a custom resource's name.
    """


class Amounts(TypedDict):
    """
    What is asked for, in use, free or there.
    """

    cpu: float
    """
    CPUs.
    """
    custom: NotRequired[dict[str, float]]
    """
    Custom resources by name.
    """
    gpu: float
    """
    GPUs.
    """
    jobs: int
    """
    Jobs.
    """
    memory_bytes: int
    """
    Memory, in bytes.
    """


class AttemptView(TypedDict):
    """
    One launch of a job.
    """

    cluster: str
    """
    Where.
    """
    end: NotRequired[str | None]
    """
    How: `succeeded`, `stopped`, or a failure's class.
    """
    ended_at: NotRequired[str | None]
    """
    When it ended.
    """
    exit_code: NotRequired[int | None]
    """
    The entrypoint's exit code.
    """
    launched_at: NotRequired[str | None]
    """
    When its launch was begun.
    """
    message: NotRequired[str | None]
    """
    What the cluster said.
    """
    number: int
    """
    1 for the first.
    """
    placed_at: str
    """
    When it was placed.
    """
    remote_name: str
    """
    Its name there.
    """
    started_at: NotRequired[str | None]
    """
    When it was seen running.
    """


class AuditLineView(TypedDict):
    """
    A change that somebody made, or tried to make.
    """

    action: str
    """
    What: `job.submit`, `job.stop`, `cluster.drain`, `cluster.resume`, `catalog.apply`, `token.create`, `token.revoke`,
    `delivery.retry`.
    """
    actor: str
    """
    Who.
    """
    address: str
    """
    From which address.
    """
    at: str
    """
    When.
    """
    id: int
    """
    Its number; grows with time.
    """
    request: str
    """
    The request's id, as in the answer's `x-request-id`.
    """
    result: str
    """
    `ok` or another word for what it came to, or the code of the problem that was answered.
    """
    target: str
    """
    Of what.
    """


class AuditLog(TypedDict):
    """
    Some lines of the audit log.
    """

    lines: list[AuditLineView]
    """
    The lines, newest first.
    """
    next: NotRequired[int | None]
    """
    Ask for lines before this one to go on; left out on the last page.
    """


CatalogChange = TypedDict(
    'CatalogChange',
    {
        'change': str,
        'field': NotRequired[str | None],
        'from': NotRequired[str | None],
        'id': str,
        'note': NotRequired[str | None],
        'to': NotRequired[str | None],
        'what': str,
    },
)


class CatalogVersionView(TypedDict):
    """
    A version of the catalog.
    """

    at: str
    """
    When it was put in force.
    """
    by: str
    """
    Who did.
    """
    source: str
    """
    `applied`, or `configuration`: a process brought it when it started.
    """
    text: NotRequired[str | None]
    """
    The document (TOML); left out in lists.
    """
    version: int
    """
    1 for the first; the highest is in force.
    """


class Clock(TypedDict):
    """
    A clock that runs.
    """

    at: str
    """
    When it runs out.
    """
    kind: str
    """
    `queue_timeout`, `place_deadline`, `launch_deadline` or `run_timeout`.
    """


class ClusterAnswerView(TypedDict):
    """
    What a cluster says to a job.
    """

    cluster: str
    """
    Which one.
    """
    code: str
    """
    `room`, or the stable code of its refusal.
    """
    message: str
    """
    For people.
    """


AvoidItem: TypeAlias = str


OnlyItem: TypeAlias = str


class Clusters(TypedDict, closed=True):
    """
    Where a job may run: on clusters that are named and that have all the labels.
    """

    avoid: NotRequired[list[AvoidItem] | None]
    """
    Not on these clusters.
    """
    labels: NotRequired[dict[str, str]]
    """
    Only on clusters that have every one of these labels with this value.
    """
    only: NotRequired[list[OnlyItem] | None]
    """
    Only on these clusters; empty is any.
    """
    prefer: NotRequired[dict[str, str]]
    """
    Rather on clusters that have these labels with this value: it counts in the choice, and keeps none out.
    """


class ConflictView(TypedDict):
    """
    A submission whose key belonged to another.
    """

    at: str
    """
    When it came.
    """
    message_id: str
    """
    Its message's or request's own id.
    """


class DriftView(TypedDict):
    """
    An account whose stored sum is not the sum of its open attempts.
    """

    id: str
    """
    Its id.
    """
    kind: str
    """
    `cluster` or `team`.
    """
    recomputed: Amounts
    """
    What the open attempts add up to.
    """
    stored: Amounts
    """
    What the ledger says.
    """


class ElasticView(TypedDict):
    """
    What an autoscaler makes of a cluster.
    """

    delay_s: int
    """
    How long it usually takes to add what is missing, in seconds.
    """
    present: NotRequired[Amounts | None]


class EndingView(TypedDict):
    """
    The end of a job that is open.
    """

    by: str
    """
    When at the latest.
    """
    cluster: str
    """
    Where it runs.
    """
    expected: str
    """
    When it will probably end.
    """
    job: str
    """
    Which.
    """
    team: str
    """
    Whose.
    """


FailureView = TypedDict(
    'FailureView',
    {
        'class': str,
        'exit_code': NotRequired[int | None],
        'message': str,
    },
)


class FieldProblem(TypedDict):
    """
    One thing that is wrong with a request.
    """

    code: str
    """
    `unknown_field`, `missing`, `invalid`, `out_of_range`, `too_large`, `unknown_team`, `unknown_class`,
    `team_not_allowed` or `never_fits`.
    """
    field: str
    """
    Where, as a path: `resources.memory`; empty for the document as a whole.
    """
    line: NotRequired[int | None]
    """
    In a text of lines: on which, from 1.
    """
    message: str
    """
    What is wrong with which value, and how to mend it.
    """


class GpuBlocksView(TypedDict):
    """
    How the GPUs of one kind lie on a cluster's nodes.
    """

    capacity: float
    """
    What there is for jobs, in use or not.
    """
    free: float
    """
    What nobody uses.
    """
    kind: str
    """
    The kind, as nodes are labelled; empty if they tell none.
    """
    largest: float
    """
    The most that one node has for jobs, in use or not: what one pod can ever have.
    """
    largest_free: float
    """
    The most that is free on one node: what one pod can have now.
    """


class JobSummary(TypedDict):
    """
    A job in a list.
    """

    attempt: int
    """
    How many attempts were made.
    """
    cluster: NotRequired[str | None]
    """
    Where its open attempt is.
    """
    created_at: str
    """
    When it was accepted.
    """
    failure: NotRequired[FailureView | None]
    id: str
    """
    Its id.
    """
    key: str
    """
    The producer's key.
    """
    name: str
    """
    For people.
    """
    resources: Amounts
    """
    What it is charged while it has an open attempt.
    """
    since: str
    """
    When it entered its state.
    """
    state: str
    """
    `queued`, `claimed`, `placed`, `launching`, `running`, `succeeded`, `failed`, `stopped` or `expired`.
    """
    stop_requested: bool
    """
    Whether somebody wants it stopped.
    """
    team: str
    """
    Who is charged.
    """


LineView = TypedDict(
    'LineView',
    {
        'actor': str,
        'at': str,
        'data': dict[str, Any],
        'event': str,
        'from': NotRequired[str | None],
        'message': str,
        'seq': int,
        'to': str,
    },
)


class MakingRoomView(TypedDict):
    """
    A job that is stopped to make room.
    """

    cause: str
    """
    By what right: `reclaim` or `higher_class`.
    """
    cluster: str
    """
    Where.
    """
    job: str
    """
    Which.
    """
    team: str
    """
    Whose.
    """


Memory: TypeAlias = int | str
"""
An amount of memory.
"""


class PastErrorView(TypedDict):
    """
    How far off expected starts have been: what schedulers expected of the first jobs of teams when they first kept room
    for them, from the same estimates of how long jobs run.
    """

    half_within_s: NotRequired[int | None]
    """
    Half of them came within this many seconds of what was expected; left out if it was more than can be told.
    """
    message: str
    """
    For people.
    """
    nine_of_ten_late_s: NotRequired[int | None]
    """
    Nine of ten came at most this many seconds later than expected; left out if it was more than can be told.
    """
    starts: int
    """
    Of how many starts.
    """


class PositionView(TypedDict):
    """
    A place in the queue.
    """

    ahead: int
    """
    How many jobs of the team go before it, of those that may be placed now.
    """
    ahead_same_shape: int
    """
    How many of those ask for the same.
    """


class Problem(TypedDict):
    """
    A problem document (RFC 9457, `application/problem+json`).
    """

    code: str
    """
    The stable code: what programs decide by.
    """
    detail: str
    """
    What went wrong this time, and what to do.
    """
    errors: NotRequired[list[FieldProblem]]
    """
    Everything that is wrong with the request, by field.
    """
    job: NotRequired[str | None]
    """
    The job that it is about: with `conflict`, the one that has the key.
    """
    newest_arrival: NotRequired[dict[str, str]]
    """
    With `not_found` of a receipt: when the newest message of each door that has a verdict was sent.
    """
    status: int
    """
    The HTTP status.
    """
    title: str
    """
    The same for every problem of this code.
    """
    type: str
    """
    `urn:yard:problem:<code>`.
    """


PushView = TypedDict(
    'PushView',
    {
        'actor': NotRequired[str | None],
        'at': str,
        'data': NotRequired[dict[str, Any] | None],
        'errors': NotRequired[list[FieldProblem]],
        'errors_left_out': NotRequired[int],
        'event': str,
        'failure': NotRequired[FailureView | None],
        'from': NotRequired[str | None],
        'id': int,
        'job': NotRequired[str | None],
        'key': str,
        'message': str,
        'message_id': NotRequired[str | None],
        'metadata': NotRequired[dict[str, str]],
        'outcome': NotRequired[str | None],
        'seq': NotRequired[int | None],
        'source': NotRequired[str | None],
        'team': str,
        'to': NotRequired[str | None],
        'type': str,
        'verdict': NotRequired[str | None],
    },
)


class Quota(TypedDict):
    """
    Bounds on what may be used; what is left out has no bound.
    """

    cpu: NotRequired[float | None]
    """
    CPUs.
    """
    custom: NotRequired[dict[str, float]]
    """
    Custom resources by name.
    """
    gpu: NotRequired[float | None]
    """
    GPUs.
    """
    jobs: NotRequired[int | None]
    """
    Jobs placed and not yet ended.
    """
    memory_bytes: NotRequired[int | None]
    """
    Memory, in bytes.
    """


class Ready(TypedDict):
    """
    The process can do its work.
    """

    database_time: str
    """
    The database's time.
    """
    ready: bool
    """
    Always true.
    """


class ReceiptView(TypedDict):
    """
    The kept verdict on a submission.
    """

    at: str
    """
    When the verdict was committed.
    """
    conflicts: NotRequired[list[ConflictView]]
    """
    Later submissions under the same key that had another body.
    """
    errors: NotRequired[list[FieldProblem]]
    """
    Everything that is wrong with it, if it was rejected.
    """
    job: NotRequired[str | None]
    """
    The job, if it was accepted.
    """
    key: str
    """
    Its key.
    """
    message_id: str
    """
    The message's or request's own id.
    """
    source: str
    """
    Which door: `sqs:<queue>` or `http`.
    """
    team: str
    """
    The team as it stood in the submission; `-` if none could be read.
    """
    verdict: str
    """
    `accepted` or `rejected`.
    """


class ResendAnswer(TypedDict):
    """
    The answer to a wish to send deliveries again.
    """

    more: bool
    """
    Whether there are more that the wish was about: ask again.
    """
    resent: int
    """
    How many are pending again.
    """


class ReservationView(TypedDict):
    """
    Room that is kept for a job.
    """

    cluster: str
    """
    Where.
    """
    expected: str
    """
    When probably.
    """
    start_by: str
    """
    By when it starts at the latest, if the cluster stays.
    """


class Resources(TypedDict, closed=True):
    """
    What a job asks for. A resource that is left out takes the installation's default.
    """

    cpu: NotRequired[float | None]
    """
    CPUs, at most 3 decimals; 0 is allowed.
    """
    custom: NotRequired[dict[str, float]]
    """
    Ray's custom resources by name, at most 3 decimals, above 0.
    """
    gpu: NotRequired[float | None]
    """
    GPUs, at most 3 decimals; 0 is allowed.
    """
    memory: NotRequired[Memory | None]
    """
    Memory: bytes as a number, or a text with a unit.
    """


class RetriesView(TypedDict):
    """
    Retries so far, by who pays for them.
    """

    infra: int
    """
    After lost clusters and failed launches, at the installation's cost.
    """
    own: int
    """
    After failures of the job's own.
    """
    own_max: int
    """
    At most this many of those.
    """
    preempted: int
    """
    Times preempted.
    """


class Retry(TypedDict, closed=True):
    """
    What happens when a job fails.
    """

    max_retries: NotRequired[int | None]
    """
    Retries (not attempts) after failures of the job's own. Lost clusters and failed launches are retried
    at the installation's cost.
    """


class SearchView(TypedDict):
    """
    How much was tried.
    """

    cut_short: bool
    """
    Whether it was given up at its bound: other changes may do, too.
    """
    plans: int
    """
    How many plans were made.
    """


class SelectorView(TypedDict):
    """
    Where a job may run.
    """

    avoid: NotRequired[list[str]]
    """
    Not these clusters.
    """
    labels: NotRequired[dict[str, str]]
    """
    Only clusters with these labels.
    """
    only: NotRequired[list[str]]
    """
    Only these clusters.
    """
    prefer: NotRequired[dict[str, str]]
    """
    Rather clusters with these labels.
    """


class StopAnswerView(TypedDict):
    """
    What a stop request met.
    """

    answer: str
    """
    `stopped`: it was queued and has ended. `requested`: the wish is kept and will be carried out.
    `already_ended`: there was nothing to stop.
    """
    id: str
    """
    Which job.
    """
    state: NotRequired[str | None]
    """
    The state in which it had already ended.
    """


class StopRequest(TypedDict, closed=True):
    """
    The body of a stop request; may be left out.
    """

    reason: NotRequired[str | None]
    """
    Why, for the history. Up to 500 characters.
    """


class Submitted(TypedDict):
    """
    The answer to an accepted submission.
    """

    created: bool
    """
    Whether this very request made the job; `false` if the same document had come before under its key.
    """
    id: str
    """
    The job.
    """
    key: str
    """
    Its key: the one given, or the one that was made for it.
    """
    pending: NotRequired[bool]
    """
    The database is away: the submission is kept in a queue and will be accepted later, under this id if it is the first
    under its key. Its receipt will tell.
    """
    team: str
    """
    Who is charged.
    """


class SwitchAnswer(TypedDict):
    """
    The answer to drain and resume.
    """

    id: str
    """
    Which cluster.
    """
    switch: str
    """
    What it is now: `open` or `drained`.
    """


class TeamHoldView(TypedDict):
    """
    Jobs of a team held by one rule.
    """

    clusters: NotRequired[list[ClusterAnswerView]]
    """
    What each cluster says to the first.
    """
    code: str
    """
    The rule's stable code.
    """
    first: str
    """
    When the first of them was accepted.
    """
    jobs: int
    """
    How many jobs.
    """
    message: str
    """
    For people, of the first of them.
    """
    shapes: int
    """
    Of how many shapes.
    """


class TeamView(TypedDict):
    """
    A team with its quota and what it uses.
    """

    borrowed: NotRequired[Amounts]
    """
    What of that is borrowed: beyond its quota, in resources that its tree of cohorts governs.
    """
    cohort: NotRequired[str | None]
    """
    The cohort in which it lends and borrows.
    """
    id: str
    """
    Its id.
    """
    lent: NotRequired[Amounts]
    """
    What of its quota others have borrowed: their loans, shared out over all that have quota to spare in proportion to
    it.
    """
    max: NotRequired[Quota]
    """
    What they may use at most when it borrows, as declared.
    """
    open: dict[str, int]
    """
    Its jobs that have not ended, by state.
    """
    quota: Quota
    """
    Nominal: what its open attempts may always use together.
    """
    used: Amounts
    """
    What they use.
    """
    weight: int
    """
    The share that it is owed beside its siblings.
    """


class Timeouts(TypedDict, closed=True):
    """
    A job's clocks, in whole seconds.
    """

    queue_s: NotRequired[int | None]
    """
    Longest wait in the queue, anew after each attempt.
    """
    run_s: NotRequired[int | None]
    """
    Longest run of one attempt.
    """


class TokenRequest1(TypedDict, closed=True):
    """
    A token to be made.
    """

    expires_in_s: NotRequired[int | None]
    """
    How long it is good for, in seconds; left out or null: for ever.
    """
    name: str
    """
    For people: what it is for, or whose. Up to 100 characters.
    """
    role: Literal['operator']
    """
    `viewer`, `submitter`, `team-admin` or `operator`.
    """
    teams: NotRequired[list[str | Literal['*']] | None]
    """
    The teams that it is for; `*` is every team. An operator is one for every team.
    """


class TokenRequest2(TypedDict, closed=True):
    """
    A token to be made.
    """

    expires_in_s: NotRequired[int | None]
    """
    How long it is good for, in seconds; left out or null: for ever.
    """
    name: str
    """
    For people: what it is for, or whose. Up to 100 characters.
    """
    role: str
    """
    `viewer`, `submitter`, `team-admin` or `operator`.
    """
    teams: list[str | Literal['*']]
    """
    The teams that it is for; `*` is every team. An operator is one for every team.
    """


TokenRequest: TypeAlias = TokenRequest1 | TokenRequest2
"""
A token to be made.
"""


class TokenView(TypedDict):
    """
    A token without its secret.
    """

    created_at: str
    """
    When it was made.
    """
    created_by: str
    """
    Who made it.
    """
    expires_at: NotRequired[str | None]
    """
    When it ends; left out: never.
    """
    id: str
    """
    Its id: the middle part of it, which is not secret.
    """
    last_used_at: NotRequired[str | None]
    """
    When it was last used, to the minute; left out: not yet.
    """
    name: str
    """
    For people.
    """
    revoked_at: NotRequired[str | None]
    """
    When it was revoked.
    """
    role: str
    """
    `viewer`, `submitter`, `team-admin` or `operator`.
    """
    teams: list[str]
    """
    The teams that it is for; `*` is every team.
    """


class Waiting(TypedDict):
    """
    Why a job is queued and not placed.
    """

    clusters: NotRequired[dict[str, str]]
    """
    A sentence per cluster.
    """
    code: str
    """
    A stable code: the rule that holds it. `backoff`: the wait before a retry; `not_looked_at`: no
    placement pass has come to it yet; others are the planner's.
    """
    expected_start: NotRequired[str | None]
    """
    When the first job of its team and shape will probably start, if room is kept for that.
    """
    message: str
    """
    For people.
    """


class Workers(TypedDict, closed=True):
    """
    Workers of a job's own Ray cluster, all alike. A resource that is left out takes the installation's default.
    """

    count: NotRequired[int | None]
    """
    How many. Not together with `min` and `max`.
    """
    cpu: NotRequired[float | None]
    """
    CPUs of each, at most 3 decimals; 0 is allowed.
    """
    custom: NotRequired[dict[str, float]]
    """
    Ray's custom resources of each by name, at most 3 decimals, above 0.
    """
    gpu: NotRequired[float | None]
    """
    GPUs of each, at most 3 decimals; 0 is allowed.
    """
    gpu_type: NotRequired[str | None]
    """
    The kind of GPU, as the cluster's profiles name it.
    """
    max: NotRequired[int | None]
    """
    At most as many. All of them are charged.
    """
    memory: NotRequired[Memory | None]
    """
    Memory of each: bytes as a number, or a text with a unit.
    """
    min: NotRequired[int | None]
    """
    At least as many; Ray's autoscaler adds more as they are needed. Default 0.
    """


class WorkloadLine(TypedDict):
    """
    A job that arrived, as a line of `GET /v1/workload`.
    """

    at_s: float
    """
    When it was accepted, in seconds since the epoch.
    """
    clusters: NotRequired[SelectorView | None]
    job: str
    """
    Its id.
    """
    priority: int
    """
    Its priority.
    """
    queue_timeout_s: float
    """
    Longest wait.
    """
    resources: Amounts
    """
    What it asked for.
    """
    run_s: NotRequired[float | None]
    """
    How long its last attempt ran; left out if none ran to an end.
    """
    run_timeout_s: float
    """
    Longest run.
    """
    team: str
    """
    Whose.
    """
    waited_s: NotRequired[float | None]
    """
    How long it waited for its first attempt; left out if there was none.
    """


class AuditView(TypedDict):
    """
    Whether every account is the sum of its open attempts.
    """

    drift: list[DriftView]
    """
    The accounts that are wrong.
    """
    exact: bool
    """
    Whether there is no drift.
    """


class BulkVerdict(TypedDict):
    """
    What became of one document.
    """

    errors: NotRequired[list[FieldProblem]]
    """
    Everything that is wrong with it, if it was rejected, or why it is forbidden.
    """
    job: NotRequired[str | None]
    """
    The job: the new one, or the one that has the key.
    """
    key: str
    """
    Its key: the one given, or the one that was made for it.
    """
    retry_after_s: NotRequired[int | None]
    """
    With `rate_limited`: send it again after so many seconds.
    """
    team: str
    """
    The team as it stood in the document; `-` if none could be read.
    """
    verdict: str
    """
    `accepted`: a new job. `duplicate`: the same document came before under its key. `conflict`: the key belongs to
    a job with another body. `rejected`: see `errors`; kept as a receipt. `rate_limited`: the team submits faster
    than it may, and nothing was kept. `forbidden`: you may not submit for the team, and nothing was kept. While the
    database is away: `pending`: kept in a queue, to be accepted later under this id if it is the first under its key;
    `unavailable`: nothing was kept, or it is not known: send it again.
    """


class CatalogAnswer(TypedDict):
    """
    What became of a catalog that was sent.
    """

    answer: str
    """
    `applied`: in force as a new version. `unchanged`: the same document was in force already. `dry_run`: nothing was
    written.
    """
    changes: list[CatalogChange]
    """
    What is different from what was in force.
    """
    version: int
    """
    The version in force now; 0 if there is none yet.
    """


class CatalogVersionList(TypedDict):
    """
    Versions of the catalog, newest first.
    """

    next: NotRequired[int | None]
    """
    Pass it as `before` for the next page; left out on the last.
    """
    versions: list[CatalogVersionView]
    """
    The versions.
    """


ChangeView = TypedDict(
    'ChangeView',
    {
        'class': NotRequired[str | None],
        'cluster': NotRequired[str | None],
        'code': str,
        'expected': NotRequired[str | None],
        'extra': NotRequired[list[AmountView]],
        'jobs': NotRequired[list[EndingView]],
        'jobs_more': NotRequired[int | None],
        'message': str,
        'obstacles': NotRequired[list[str]],
        'owner': NotRequired[str | None],
        'owner_kind': NotRequired[str | None],
        'placed_on': NotRequired[str | None],
        'priority': NotRequired[int | None],
        'request': NotRequired[AmountView | None],
    },
)


class ClusterView(TypedDict):
    """
    A cluster with what it has and what is in use.
    """

    breaker_open: NotRequired[bool]
    """
    Whether launches are held back because calls keep failing.
    """
    capacity: NotRequired[Amounts | None]
    configured: bool
    """
    Whether it stands in the configuration.
    """
    cost_per_hour: NotRequired[float | None]
    """
    What it costs per hour when used whole.
    """
    driver: str
    """
    The driver's kind: `ray`, `kuberay`, `process`.
    """
    elastic: NotRequired[ElasticView | None]
    free: NotRequired[Amounts | None]
    gpus: NotRequired[list[GpuBlocksView]]
    """
    How its GPUs lie on nodes, by kind; left out where that is not watched.
    """
    health: str
    """
    What its dispatcher last found: `ready`, `not_ready` (it answers, but nothing can begin there now), `unreachable` or
    `unknown`.
    """
    id: str
    """
    Its id.
    """
    labels: dict[str, str]
    """
    What selectors match on.
    """
    last_seen: NotRequired[str | None]
    """
    When it last answered.
    """
    message: NotRequired[str | None]
    """
    What went wrong last.
    """
    profiles: NotRequired[list[str]]
    """
    The profiles that jobs may name in `ray_cluster.profile`, the default first; left out where no Ray cluster is made for a
    job, or until its dispatcher has told.
    """
    recent_failures: NotRequired[int]
    """
    Launches that failed lately; fades.
    """
    switch: str
    """
    An operator's word: `open` or `drained`.
    """
    takes_jobs: bool
    """
    Whether new jobs are placed on it now.
    """
    used: Amounts
    """
    What its open attempts are charged.
    """


class DeliveryView(TypedDict):
    """
    An event on its way to a subscription.
    """

    attempts: int
    """
    How often it has been tried.
    """
    body: PushView
    """
    What is sent.
    """
    created_at: str
    """
    When it was made.
    """
    dead_at: NotRequired[str | None]
    """
    Of what is dead: since when.
    """
    due_at: NotRequired[str | None]
    """
    Of what is pending: when its turn is, unless another of its job is to go first.
    """
    id: int
    """
    Which event: its place in the order of all.
    """
    last_error: NotRequired[str | None]
    """
    Why the last attempt failed.
    """
    state: str
    """
    `pending` or `dead`.
    """
    subscription: str
    """
    Its name.
    """
    team: str
    """
    Whose subscription.
    """


class EventView(LineView):
    """
    One thing that happened to some job.
    """

    id: NotRequired[int | None]
    """
    Its place in the order of all events: where to go on after it. On a job's own stream it is left out; there `seq`
    says that.
    """
    job: str
    """
    Which job.
    """
    team: str
    """
    Whose.
    """


class ExpectedStartView(TypedDict):
    """
    When a job will probably start: the planner run forward over what is open and what waits. New jobs are not foreseen.
    """

    after: NotRequired[str | None]
    """
    Not before; differs from `at` where several ends were taken together.
    """
    at: NotRequired[str | None]
    """
    When.
    """
    cluster: NotRequired[str | None]
    """
    Where.
    """
    code: str
    """
    `forecast`, or why there is none: `beyond_horizon`, `too_far`, `never_as_it_is`, `unseen`, `absent`.
    """
    message: str
    """
    For people.
    """
    past_error: NotRequired[PastErrorView | None]


class ExplanationView(TypedDict):
    """
    Why a job is where it is. For a job that waits: the rule that holds it, what would change that, and when it will
    probably start.
    """

    ahead: NotRequired[list[AheadView]]
    """
    Who goes first, and why.
    """
    changes: NotRequired[list[ChangeView]]
    """
    What would let it start in the next pass. Each was tried on the planner.
    """
    cluster: NotRequired[str | None]
    """
    Where it is, or will be placed.
    """
    clusters: NotRequired[list[ClusterAnswerView]]
    """
    What each cluster says to it, apart from any quota.
    """
    code: str
    """
    A stable code. Of a job that waits: the rule that holds it (`team_quota`, `quota_reserved`, `preempting`,
    `no_cluster`, `pass_full`), `backoff`, `starts_now` or `team_not_configured`; of any other: its state.
    """
    expected_start: NotRequired[ExpectedStartView | None]
    job: str
    """
    Which job.
    """
    making_room: NotRequired[list[MakingRoomView]]
    """
    Jobs that are stopped to make room for it.
    """
    message: str
    """
    The same for people.
    """
    now: str
    """
    The database's time: what is told is as of then.
    """
    position: NotRequired[PositionView | None]
    reservation: NotRequired[ReservationView | None]
    search: NotRequired[SearchView | None]
    since: str
    """
    When it entered that.
    """
    state: str
    """
    Its state.
    """
    summary: str
    """
    The whole in a sentence: what holds it, and what would change that.
    """
    team: str
    """
    Whose.
    """


class HistoryView(TypedDict):
    """
    A job's history, in order.
    """

    id: str
    """
    Which job.
    """
    lines: list[LineView]
    """
    Its lines.
    """
    next: NotRequired[int | None]
    """
    Ask for lines after this one to go on; left out if there are no more now.
    """


class JobList(TypedDict):
    """
    A page of jobs, newest first.
    """

    jobs: list[JobSummary]
    """
    The jobs.
    """
    next: NotRequired[str | None]
    """
    The cursor of the next page; left out on the last.
    """
    now: str
    """
    The database's time: ages are counted from it.
    """


class JobView(JobSummary):
    """
    A job, whole.
    """

    attempts: list[AttemptView]
    """
    Its attempts, first to last.
    """
    clock: NotRequired[Clock | None]
    ended_at: NotRequired[str | None]
    """
    When it ended.
    """
    priority: int
    """
    Its place inside the team's queue: higher is earlier.
    """
    retries: RetriesView
    """
    Its retries so far.
    """
    spec: dict[str, Any]
    """
    The submission with every default filled in.
    """
    waiting: NotRequired[Waiting | None]


class RayCluster(TypedDict, closed=True):
    """
    The Ray cluster that a job gets for itself on clusters where one is made for each job (driver `kuberay`). With `head`
    or `workers` and no `resources`, the job is charged head and workers together.
    """

    env: NotRequired[dict[str, str]]
    """
    Environment variables of the cluster's containers, where the profile allows a job to set them.
    """
    head: NotRequired[Resources | None]
    """
    What the head gets. Default: what the workers leave of `resources`.
    """
    image: NotRequired[str | None]
    """
    The container image, where the profile allows a job to name one.
    """
    profile: NotRequired[str | None]
    """
    One of the cluster's named profiles. Default: the cluster's default profile.
    """
    workers: NotRequired[Workers | None]
    """
    Its workers. Default: none, the head does it all.
    """


class Submission(TypedDict, closed=True):
    """
    A Ray job to be kept until it is done. A field that is left out (or null) takes the installation's default.
    """

    clusters: NotRequired[Clusters | None]
    """
    Where it may run. Default: anywhere.
    """
    entrypoint: str
    """
    The shell command to run on the cluster.
    """
    key: NotRequired[str | None]
    """
    Your own name for this submission, unique within the team for ever: the same document under the same
    key is the same job, another document is a conflict. Visible ASCII. Default: made from the message's id.
    """
    metadata: NotRequired[dict[str, str]]
    """
    Your own notes, handed to the cluster. Keys must not begin with `yard.`.
    """
    name: NotRequired[str | None]
    """
    For people. Default: the key, or the beginning of the entrypoint.
    """
    priority: NotRequired[int | None]
    """
    Its place inside the team's queue: higher is earlier. Default 0.
    """
    priority_class: NotRequired[str | None]
    """
    The name of one of the installation's priority classes: its priority is the job's. Not together with `priority`.
    """
    ray_cluster: NotRequired[RayCluster | None]
    """
    The Ray cluster that it wants to itself, where clusters are made per job.
    """
    resources: NotRequired[Resources | None]
    """
    What the job is charged and what its cluster must have free.
    """
    retry: NotRequired[Retry | None]
    """
    What happens when it fails.
    """
    runtime_env: NotRequired[dict[str, Any] | None]
    """
    Ray's runtime environment, handed on as it is.
    """
    team: str
    """
    Who is charged: a DNS label (1 to 63 of a-z, 0-9 and '-').
    """
    timeouts: NotRequired[Timeouts | None]
    """
    Its clocks.
    """
    v: Literal[1]
    """
    The version of this document: 1.
    """


class TeamExplanationView(TypedDict):
    """
    Why a team's jobs wait, and what would change most.
    """

    ahead: list[AheadView]
    """
    Who goes before its first waiting job.
    """
    changes: list[ChangeView]
    """
    What would let more of them start in the next pass, largest gain first. Each was tried on the planner.
    """
    holds: list[TeamHoldView]
    """
    What holds its jobs, most jobs first; of those that a pass looks at.
    """
    message: str
    """
    For people, in a sentence.
    """
    now: str
    """
    The database's time.
    """
    queued: int
    """
    How many of its jobs wait; exact.
    """
    search: SearchView
    """
    How much was tried.
    """
    share: float
    """
    Its dominant share for its weight: the largest part, over resources, that it uses of what there is.
    """
    starting: int
    """
    How many the next pass places, of those that it looks at.
    """
    team: str
    """
    Which team.
    """


class TeamList(TypedDict):
    """
    Every configured team.
    """

    teams: list[TeamView]
    """
    The teams, by id.
    """


class TokenList(TypedDict):
    """
    Some tokens.
    """

    next: NotRequired[str | None]
    """
    The cursor of the next page; left out on the last.
    """
    tokens: list[TokenView]
    """
    The tokens, by id.
    """


class TokenMade(TokenView):
    """
    A token that was just made.
    """

    token: str
    """
    The token itself: shown this once, and kept nowhere.
    """


class BulkAnswer(TypedDict):
    """
    The verdicts, in the order of the documents.
    """

    verdicts: list[BulkVerdict]
    """
    One for each document.
    """


class BulkRequest(TypedDict, closed=True):
    """
    Many documents, each with a verdict of its own.
    """

    jobs: list[Submission]
    """
    The documents, each as it would be submitted alone.
    """


class ClusterList(TypedDict):
    """
    Every cluster.
    """

    clusters: list[ClusterView]
    """
    The clusters, by id.
    """


class DeliveryList(TypedDict):
    """
    Some deliveries.
    """

    deliveries: list[DeliveryView]
    """
    The deliveries, by team, subscription and event.
    """
    next: NotRequired[str | None]
    """
    The cursor of the next page; left out on the last.
    """