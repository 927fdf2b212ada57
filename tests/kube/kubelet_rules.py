"""What the small kubelet does next with a pod: values in, values out.

It stands for the scheduler and the kubelets of all nodes. A pod is told to fail by annotations:

    yard.test/fail: OOMKilled | Error | Evicted | ImagePullBackOff | Hang
    yard.test/exit-code: "3"     # with Error
    yard.test/start-after: "2"   # seconds between being bound and running
    yard.test/dashboard: own | fake | none   # a head's: a Ray head of its own, one that runs nothing, one that is deaf;
                                             # without it the one that all share

They may be there from the start (a RayCluster's template puts them on its pods) or be added while the pod runs. The same
may be said in the environment of its first container, as YARD_TEST_FAIL and so on. `Hang` leaves a pod that is deleted where it is,
as a node does that is gone.
"""

import datetime
import re
from dataclasses import dataclass, field

FAIL, EXIT_CODE, START_AFTER = "yard.test/fail", "yard.test/exit-code", "yard.test/start-after"
DASHBOARD = "yard.test/dashboard"
SUBMISSION_ID = "RAY_JOB_SUBMISSION_ID"  # in the environment of a submitter
SIDECAR = "ray-job-submitter"  # the container of a submitter beside the head
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True)
class Node:
    """A node that is always ready; `allocatable` in base units (cores, bytes, pieces)."""

    name: str
    address: str
    allocatable: dict[str, float]
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[dict, ...] = ()
    unschedulable: bool = False


@dataclass(frozen=True)
class World:
    """What a pod is placed in: the nodes, what each has left, and the time."""

    nodes: dict[str, Node]
    free: dict[str, dict[str, float]]
    now: float


@dataclass(frozen=True)
class Known:
    """What is known of a pod beside its object."""

    address: str  # that it has or gets
    bound_at: float  # when it was seen bound
    runs: bool = False  # its program was started
    exit_code: int | None = None  # of its program
    head: str | None = None  # its own Ray head is `starting` or `ready`


@dataclass(frozen=True)
class Bind:
    node: str


@dataclass(frozen=True)
class SetStatus:
    """Merge this into the pod's status, and record a warning of this reason and text."""

    status: dict
    warning: tuple[str, str] | None = None
    ends: bool = False  # its containers end by this


@dataclass(frozen=True)
class Remove:
    """Its containers are gone: delete it without grace."""


@dataclass(frozen=True)
class StartHead:
    """Start a Ray head for this pod alone; `Known.head` says when it is ready."""


@dataclass(frozen=True)
class Run:
    """Start its first container's program; `Known.exit_code` says when it has ended."""


@dataclass(frozen=True)
class Wait:
    """Look again in so many seconds."""

    seconds: float


def quantity(text: str | int | float) -> float:
    """A Kubernetes quantity in base units: 500m is 0.5, 1Gi is 2^30."""
    found = re.fullmatch(r"([0-9.]+(?:[eE][0-9]+)?)(m|[kMGT]i?|)", str(text))
    if not found:
        raise ValueError(f"no quantity: {text!r}")
    number, unit = found.groups()
    return float(number) / 1000 if unit == "m" else float(number) * UNITS[unit]


def requests(pod: dict) -> dict[str, float]:
    """What a pod asks of its node: its containers together, or its largest init container."""
    total: dict[str, float] = {"pods": 1}
    for container in pod["spec"]["containers"]:
        for name, amount in _requests(container).items():
            total[name] = total.get(name, 0) + amount
    for container in pod["spec"].get("initContainers", []):
        for name, amount in _requests(container).items():
            total[name] = max(total.get(name, 0), amount)
    return total


def _requests(container: dict) -> dict[str, float]:
    given = container.get("resources", {})
    return {name: quantity(text) for name, text in {**given.get("limits", {}), **given.get("requests", {})}.items()}


def next_step(pod: dict, known: Known, world: World):
    """What to do with a pod now, or None."""
    fail, phase = told(pod, FAIL), pod["status"].get("phase", "Pending")
    if pod["metadata"].get("deletionTimestamp"):
        return None if fail == "Hang" else Remove()
    if phase in ("Succeeded", "Failed"):
        return None
    name = pod["spec"].get("nodeName")
    if not name:
        return _place(pod, world)
    if name not in world.nodes:
        return None
    node, now = world.nodes[name], world.now
    if fail == "ImagePullBackOff":
        message = f'Failed to pull image "{pod["spec"]["containers"][0]["image"]}": not found'
        return _unless_there(pod, _image_pull(pod, known.address, node), ("Failed", message))
    if phase == "Pending":
        if told(pod, DASHBOARD) == "own" and is_head(pod) and known.head != "ready":
            return None if known.head else StartHead()
        begin = known.bound_at + float(told(pod, START_AFTER) or 0)
        return Wait(begin - now) if begin > now else SetStatus(_running(pod, known.address, node, now))
    if fail in ("OOMKilled", "Error", "Evicted"):
        code = 137 if fail == "OOMKilled" else int(told(pod, EXIT_CODE) or 1)
        step = _unless_there(pod, _ended(pod, fail, code, now))
        return step and SetStatus(step.status, ends=True)
    if is_submitter(pod):
        if known.exit_code is not None and is_head(pod):
            return _unless_there(pod, _sidecar_ended(pod, known.exit_code, now))
        if known.exit_code is not None:
            return SetStatus(_ended(pod, "Error" if known.exit_code else "Completed", known.exit_code, now))
        return None if known.runs else Run()
    return None


def told(pod: dict, key: str) -> str | None:
    """What a test says to do with this pod: an annotation, or a variable of its first container."""
    variable = key.upper().replace(".", "_").replace("/", "_").replace("-", "_")
    environment = {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0].get("env", [])}
    return (pod["metadata"].get("annotations") or {}).get(key) or environment.get(variable)


def is_head(pod: dict) -> bool:
    """Whether it is the head of a Ray cluster."""
    return (pod["metadata"].get("labels") or {}).get("ray.io/node-type") == "head"


def submitter(pod: dict) -> dict | None:
    """The container whose program is a submitter's, the only one that is run: of a pod of its own (`K8sJobMode`), or beside the
    head (`SidecarMode`)."""
    containers = pod["spec"]["containers"]
    if is_head(pod):
        return next((c for c in containers if c["name"] == SIDECAR), None)
    of_job = "job-name" in (pod["metadata"].get("labels") or {})
    told = any(entry["name"] == SUBMISSION_ID for entry in containers[0].get("env", []))
    return containers[0] if of_job and told else None


def is_submitter(pod: dict) -> bool:
    """Whether a program of this pod is run."""
    return submitter(pod) is not None


def _place(pod: dict, world: World):
    if pod["spec"].get("schedulingGates"):
        return None
    wanted, reasons = requests(pod), []
    for node in world.nodes.values():
        if reason := _refusal(pod, node, wanted, world.free[node.name]):
            reasons.append(reason)
        else:
            return Bind(node.name)
    counted = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
    message = f"0/{len(world.nodes)} nodes are available: {counted}."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return _unless_there(pod, {"conditions": [condition]}, ("FailedScheduling", message))


def _refusal(pod: dict, node: Node, wanted: dict[str, float], free: dict[str, float]) -> str | None:
    """Why a pod can't be on a node, in the scheduler's words."""
    if node.unschedulable:
        return "node(s) were unschedulable"
    if any(node.labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return "node(s) didn't match Pod's node affinity/selector"
    tolerations = pod["spec"].get("tolerations") or []
    for taint in node.taints:
        if taint["effect"] != "PreferNoSchedule" and not any(_tolerates(t, taint) for t in tolerations):
            return "node(s) had untolerated taint(s)"
    short = [name for name, amount in wanted.items() if amount > free.get(name, 0) + 1e-9]
    return f"Insufficient {short[0]}" if short else None


def _tolerates(toleration: dict, taint: dict) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", "")


def _unless_there(pod: dict, status: dict, warning: tuple[str, str] | None = None):
    """Set a status, but not twice: times and counts would go on for ever."""
    now_there = pod["status"]
    for key, value in status.items():
        if key == "conditions":
            old = {c["type"]: (c["status"], c.get("reason"), c.get("message")) for c in now_there.get(key, [])}
            same = all(old.get(c["type"]) == (c["status"], c.get("reason"), c.get("message")) for c in value)
        elif key == "containerStatuses":
            same = [_kind(s) for s in now_there.get(key, [])] == [_kind(s) for s in value]
        else:
            same = now_there.get(key) == value
        if not same:
            return SetStatus(status, warning)
    return None


def _kind(status: dict) -> tuple:
    """What a container's state is, without its times and counts."""
    current, last = next(iter(status.get("state", {}).items()), ("", {})), status.get("lastState", {}).get("terminated", {})
    return status["name"], current[0], current[1].get("reason"), last.get("reason")


def _running(pod: dict, address: str, node: Node, now: float) -> dict:
    started = time_text(now)
    return {
        "phase": "Running",
        "hostIP": node.address,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": started,
        "conditions": _conditions(True),
        "initContainerStatuses": [
            _container(c, True, {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": started}})
            for c in pod["spec"].get("initContainers", [])
        ],
        "containerStatuses": [_container(c, True, {"running": {"startedAt": started}}) for c in pod["spec"]["containers"]],
    }


def _image_pull(pod: dict, address: str, node: Node) -> dict:
    def waiting(container: dict) -> dict:
        message = f'Back-off pulling image "{container["image"]}"'
        return _container(container, False, {"waiting": {"reason": "ImagePullBackOff", "message": message}})

    statuses = [waiting(container) for container in pod["spec"]["containers"]]
    return {"phase": "Pending", "hostIP": node.address, "conditions": _conditions(False), "containerStatuses": statuses}


def _ended(pod: dict, reason: str, code: int, now: float) -> dict:
    """The first container has ended; with `restartPolicy: Always` it was started again, else the pod has failed."""
    if reason == "Evicted":
        message = "The node was low on resource: memory."
        return {"phase": "Failed", "reason": "Evicted", "message": message, "conditions": _conditions(False)}
    at = time_text(now)
    ended = {"terminated": {"exitCode": code, "reason": reason, "startedAt": pod["status"].get("startTime", at), "finishedAt": at}}
    old = {status["name"]: status for status in pod["status"].get("containerStatuses", [])}
    again = reason != "Completed" and pod["spec"].get("restartPolicy", "Always") != "Never"
    statuses = []
    for index, container in enumerate(pod["spec"]["containers"]):
        if index:
            statuses.append(old.get(container["name"]) or _container(container, again, {"running": {"startedAt": at}}))
            continue
        status = _container(container, again, {"running": {"startedAt": at}} if again else ended)
        count = old.get(container["name"], {}).get("restartCount", 0)
        statuses.append({**status, "restartCount": count + 1, "lastState": ended} if again else status)
    if reason == "Completed":
        return {"phase": "Succeeded", "conditions": _conditions(False), "containerStatuses": statuses}
    if again:
        return {"phase": "Running", "conditions": _conditions(True), "containerStatuses": statuses}
    return {"phase": "Failed", "conditions": _conditions(False), "containerStatuses": statuses}


def _sidecar_ended(pod: dict, code: int, now: float) -> dict:
    """The submitter beside the head has ended; the head goes on."""
    at, statuses = time_text(now), []
    for status in pod["status"].get("containerStatuses", []):
        if status["name"] == SIDECAR:
            began = status["state"].get("running", {}).get("startedAt", at)
            reason = "Error" if code else "Completed"
            ended = {"terminated": {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": at}}
            status = {**status, "ready": False, "started": False, "state": ended}
        statuses.append(status)
    return {"phase": "Running", "containerStatuses": statuses}


def _container(container: dict, ready: bool, state: dict) -> dict:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": f"test://{container['image']}",
        "ready": ready and "waiting" not in state,
        "started": ready,
        "restartCount": 0,
        "state": state,
    }


def _conditions(ready: bool) -> list[dict]:
    of = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    return [{"type": name, "status": "True" if value else "False"} for name, value in of.items()]


def time_text(now: float) -> str:
    return datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
