"""A small scheduler and kubelet for all nodes of a test cluster, in one process.

    python3 tests/kube/kubelet.py CONFIG.json

Watches pods, asks `kubelet_rules.next_step` about each that changed, and does what it says. Only a submitter's program is
run (`ray job submit`, in K8sJobMode and SidecarMode); a head's port 8265 is the Ray head that CONFIG names, reached by network.py. It also answers for the nodes' kubelets when
the API server wants a container's log. CONFIG: see `Config`.
"""

import asyncio
import contextlib
import heapq
import http.server
import json
import os
import queue
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kube import kubelet_rules as rules  # noqa: E402
from kube.client import Access, ApiError, Client  # noqa: E402
from kube.fake_ray import FakeRay  # noqa: E402
from kube.heads import OpenRayHead  # noqa: E402
from kube.network import Proxy  # noqa: E402

PODS = "/api/v1/pods"
NODES = "/api/v1/nodes"
KUBELET_PORT = 10250
DASHBOARD_PORT = 8265
LOG = "yard.test/log"  # an annotation: what the container's log is to say
OWN_HEAD_CPUS = 2
SERVICE = r"([a-z0-9.-]+\.svc\.[a-z.]+|127\.0\.0\.1|localhost):8265"  # what a submitter is told for the head
RETRY_S = 0.5
WORKERS = 8


@dataclass(frozen=True)
class Config:
    """What the process is given, as JSON."""

    kubeconfig: str
    folder: str  # for its own files
    socket: str  # where network.py listens
    dashboard: int  # the loopback port of the Ray head behind every head pod
    fake_dashboard: int  # the loopback port for the one that runs nothing
    path: str  # the folder of the program `ray`, for submitters
    certificate: str  # for the kubelets' own port
    key: str


class Kubelet:
    """The loop: what is known of pods and nodes, and what is due."""

    def __init__(self, config: Config):
        self.config = config
        access = Access.read(Path(config.kubeconfig), Path(config.folder) / "ca.crt")
        self.client = Client(access)
        self.nodes: dict[str, rules.Node] = {}
        self.pods: dict[str, dict] = {}
        self.placed: dict[str, tuple[str, dict[str, float]]] = {}  # pod → its node, and what it takes there
        self.free: dict[str, dict[str, float]] = {}
        self.bound_at: dict[str, float] = {}
        self.addresses: dict[str, str] = {}  # pod → address
        self.by_address: dict[str, str] = {}
        self.next_address = 0
        self.programs: dict[str, subprocess.Popen | int] = {}  # pod → its program while it runs, then its exit code
        self.heads: dict[str, OpenRayHead] = {}  # pod → its own Ray head
        self.in_flight: set[str] = set()
        self.events: queue.Queue = queue.Queue()
        self.due: list[tuple[float, str]] = []
        self.pool = ThreadPoolExecutor(WORKERS)

    def run(self) -> None:
        """Until the process is ended."""
        threading.Thread(target=self._follow, args=(NODES, "node"), daemon=True).start()
        threading.Thread(target=self._follow, args=(PODS, "pod"), daemon=True).start()
        while True:
            timeout = max(0.0, self.due[0][0] - time.time()) if self.due else None
            try:
                kind, what = self.events.get(timeout=timeout)
                getattr(self, f"_{kind}")(what)
            except queue.Empty:
                pass
            while self.due and self.due[0][0] <= time.time():
                self._look(heapq.heappop(self.due)[1])

    def route(self, host: str, port: int) -> int | None:
        """For network.py: what is behind an address of ours."""
        if port == KUBELET_PORT and any(node.address == host for node in self.nodes.values()):
            return self.log_port
        pod = self.pods.get(self.by_address.get(host, ""), {})
        if pod.get("status", {}).get("phase") != "Running" or port != DASHBOARD_PORT:
            return None
        own = self.heads.get(pod["metadata"]["uid"])
        ports = {None: self.config.dashboard, "fake": self.config.fake_dashboard, "own": own.port if own else None}
        return ports.get(rules.told(pod, rules.DASHBOARD))

    async def serve_network(self) -> None:
        """The proxy and the dashboard that runs nothing, for ever."""
        proxy = Proxy(Path(self.config.socket), self.route)
        await asyncio.gather(FakeRay().serve(self.config.fake_dashboard), proxy.serve())

    def serve_logs(self) -> None:
        """Answer for the kubelets, on a port of our own."""
        kubelet = self

        class Logs(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path, _, query = self.path.partition("?")
                parts, wanted = path.split("/"), {key: values[0] for key, values in urllib.parse.parse_qs(query).items()}
                known = {(p["metadata"]["namespace"], p["metadata"]["name"]): p for p in list(kubelet.pods.values())}
                pod = known.get((parts[2], parts[3])) if len(parts) == 5 and parts[1] == "containerLogs" else None
                text = _end_of(kubelet.log_of(pod, parts[4]).encode(), wanted) if pod else b"no such pod"
                self.send_response(200 if pod else 404)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Logs)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.config.certificate, self.config.key)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.log_port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def log_of(self, pod: dict, container: str) -> str:
        """What a submitter has written; else what the annotation says, or that the container has started."""
        own = Path(self.config.folder) / f"{pod['metadata']['uid']}.log"
        if own.exists():
            return own.read_text(errors="replace")
        given = rules.told(pod, LOG)
        return f"{given}\n" if given else f"{container} of {pod['metadata']['name']} has started\n"

    def _follow(self, path: str, kind: str) -> None:
        """List, then watch, for ever; whatever ends it, it starts again."""
        while True:
            try:
                listed = self.client.get(path)
                self.events.put((f"{kind}s_listed", listed["items"]))
                version = listed["metadata"]["resourceVersion"]
                for event in self.client.watch(path, version):
                    if event["type"] != "BOOKMARK":
                        self.events.put((f"{kind}_event", event))
            except (ApiError, OSError, ValueError) as error:
                print(f"watch of {kind}s: {error}", flush=True)
                time.sleep(RETRY_S)

    def _nodes_listed(self, items: list[dict]) -> None:
        self.nodes = {}
        for item in items:
            self._node_event({"type": "ADDED", "object": item})

    def _node_event(self, event: dict) -> None:
        item = event["object"]
        name = item["metadata"]["name"]
        if event["type"] == "DELETED":
            self.nodes.pop(name, None)
            return
        addresses = [a["address"] for a in item["status"].get("addresses", []) if a["type"] == "InternalIP"]
        allocatable = {key: rules.quantity(value) for key, value in item["status"].get("allocatable", {}).items()}
        if not addresses or not allocatable:
            return
        spec = item["spec"]
        self.nodes[name] = rules.Node(
            name, addresses[0], allocatable, item["metadata"].get("labels", {}),
            tuple(spec.get("taints", [])), spec.get("unschedulable", False),
        )  # fmt: skip
        self._count(name)
        self._wake_pending()

    def _count(self, name: str) -> None:
        """What this node has left."""
        left = dict(self.nodes[name].allocatable)
        for node, taken in self.placed.values():
            if node == name:
                for key, amount in taken.items():
                    left[key] = left.get(key, 0) - amount
        self.free[name] = left

    def _pods_listed(self, items: list[dict]) -> None:
        seen = {item["metadata"]["uid"] for item in items}
        for uid in set(self.pods) - seen:
            self._forget(uid)
        for item in items:
            self._pod_event({"type": "MODIFIED", "object": item})

    def _pod_event(self, event: dict) -> None:
        pod = event["object"]
        uid = pod["metadata"]["uid"]
        if event["type"] == "DELETED":
            self._forget(uid)
            return
        self.pods[uid] = pod
        if pod["spec"].get("nodeName"):
            self.bound_at.setdefault(uid, time.time())
            self._address(uid, pod["status"].get("podIP"))
            self._take(uid, pod["spec"]["nodeName"], rules.requests(pod))
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            self._give_back(uid)
        self._look(uid)

    def _forget(self, uid: str) -> None:
        self.pods.pop(uid, None)
        self.bound_at.pop(uid, None)
        self.by_address.pop(self.addresses.pop(uid, ""), None)
        if isinstance(program := self.programs.pop(uid, None), subprocess.Popen):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
        self._give_back(uid)
        if head := self.heads.pop(uid, None):
            self.pool.submit(head.remove)

    def _head_is_up(self, what: tuple) -> None:
        uid, head = what
        if uid in self.pods:
            self.heads[uid] = head
        else:
            self.pool.submit(head.remove)

    def _start(self, uid: str, pod: dict) -> None:
        """Start a submitter's program, with the real head in place of the service's name."""
        container = rules.submitter(pod)
        head = f"127.0.0.1:{self.config.dashboard}"
        command = [re.sub(SERVICE, head, word) for word in [*container.get("command", []), *container.get("args", [])]]
        given = {entry["name"]: re.sub(SERVICE, head, entry.get("value") or "") for entry in container.get("env", [])}
        environment = {**os.environ, **given, "PATH": f"{self.config.path}:{os.environ['PATH']}"}
        log = open(Path(self.config.folder) / f"{uid}.log", "wb")
        program = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.programs[uid] = program
        threading.Thread(target=lambda: self.events.put(("exited", (uid, program.wait()))), daemon=True).start()

    def _exited(self, what: tuple) -> None:
        uid, code = what
        if uid in self.programs:
            self.programs[uid] = code if code >= 0 else 128 - code
            self._look(uid)

    def _address(self, uid: str, given: str | None = None) -> str:
        """The pod's own address, in the range of benchmarks (RFC 2544); one that is used still has its own."""
        if given or uid not in self.addresses:
            while not given:
                self.next_address = self.next_address % 60_000 + 1
                free = f"198.19.{self.next_address // 250}.{self.next_address % 250 + 1}"
                given = None if free in self.by_address else free
            self.addresses[uid], self.by_address[given] = given, uid
        return self.addresses[uid]

    def _take(self, uid: str, node: str, wanted: dict[str, float]) -> None:
        if uid not in self.placed and node in self.free:
            self.placed[uid] = (node, wanted)
            for key, amount in wanted.items():
                self.free[node][key] = self.free[node].get(key, 0) - amount

    def _give_back(self, uid: str) -> None:
        node, taken = self.placed.pop(uid, ("", {}))
        if node in self.free:
            for key, amount in taken.items():
                self.free[node][key] += amount
            self._wake_pending()

    def _wake_pending(self) -> None:
        for uid, pod in self.pods.items():
            if not pod["spec"].get("nodeName"):
                heapq.heappush(self.due, (time.time(), uid))

    def _look(self, uid: str) -> None:
        """Ask what to do with this pod, and have a worker do it."""
        pod = self.pods.get(uid)
        if pod is None or uid in self.in_flight:
            return
        now = time.time()
        program = self.programs.get(uid)
        code = program if isinstance(program, int) else None
        head = "ready" if uid in self.heads else None  # while it starts, the pod is in flight
        known = rules.Known(self._address(uid), self.bound_at.get(uid, now), program is not None, code, head)
        step = rules.next_step(pod, known, rules.World(self.nodes, self.free, now))
        if isinstance(step, rules.Wait):
            heapq.heappush(self.due, (now + step.seconds, uid))
        elif isinstance(step, rules.Run):
            self._start(uid, pod)
        elif step is not None:
            if isinstance(step, rules.Bind):
                self._take(uid, step.node, rules.requests(pod))
            self.in_flight.add(uid)
            self.pool.submit(self._do, uid, pod, step)

    def _do(self, uid: str, pod: dict, step) -> None:
        """In a worker: one call."""
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        result, again = None, False
        try:
            if isinstance(step, rules.Bind):
                target = {"apiVersion": "v1", "kind": "Node", "name": step.node}
                body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}, "target": target}
                self.client.create(f"{path}/binding", body)
            elif isinstance(step, rules.StartHead):
                head = OpenRayHead(pod["metadata"]["name"][-8:], num_cpus=OWN_HEAD_CPUS).start()
                self.events.put(("head_is_up", (uid, head)))
            elif isinstance(step, rules.SetStatus):
                if step.ends and (head := self.heads.pop(uid, None)):
                    head.remove()
                body = {"metadata": {"uid": uid}, "status": step.status}  # the uid: never another pod of that name
                result = self.client.patch(f"{path}/status", body, "strategic-merge")
                if step.warning:
                    self._warn(pod, *step.warning)
            else:
                self.client.call("DELETE", path, {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})
        except ApiError as error:
            again = error.status not in (404, 409, 422)
            print(f"{type(step).__name__}: {error}", flush=True)
        except (OSError, ValueError, RuntimeError) as error:
            again = True
            print(f"{type(step).__name__} of {path}: {error}", flush=True)
        self.events.put(("done", (uid, step, result, again)))

    def _warn(self, pod: dict, reason: str, message: str) -> None:
        """An event about a pod, as the scheduler and the kubelet record them."""
        about = {"apiVersion": "v1", "kind": "Pod"} | {key: pod["metadata"][key] for key in ("namespace", "name", "uid")}
        now = rules.time_text(time.time())
        event = {
            "metadata": {"generateName": f"{pod['metadata']['name']}.", "namespace": about["namespace"]},
            "involvedObject": about,
            "type": "Warning",
            "reason": reason,
            "message": message,
            "source": {"component": "test-kubelet"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self.client.create(f"/api/v1/namespaces/{about['namespace']}/events", event)

    def _done(self, what: tuple) -> None:
        uid, step, result, again = what
        self.in_flight.discard(uid)
        if again:
            heapq.heappush(self.due, (time.time() + RETRY_S, uid))
        elif result is not None and uid in self.pods and _newer(result, self.pods[uid]):
            self._pod_event({"type": "MODIFIED", "object": result})
        elif isinstance(step, rules.Bind) and not self.pods.get(uid, {}).get("spec", {}).get("nodeName"):
            pass  # bound, though our watch has not said so yet: it will
        else:
            self._look(uid)


def _end_of(log: bytes, wanted: dict[str, str]) -> bytes:
    """As a kubelet does it: so many lines from the end, and of those so many bytes from the beginning."""
    if "tailLines" in wanted:
        log = b"".join(log.splitlines(keepends=True)[-int(wanted["tailLines"]) :])
    return log[: int(wanted["limitBytes"])] if "limitBytes" in wanted else log


def _newer(one: dict, other: dict) -> bool:
    return int(one["metadata"]["resourceVersion"]) >= int(other["metadata"]["resourceVersion"])


def main() -> None:
    kubelet = Kubelet(Config(**json.loads(Path(sys.argv[1]).read_text())))
    kubelet.serve_logs()
    threading.Thread(target=lambda: asyncio.run(kubelet.serve_network()), daemon=True).start()
    kubelet.run()


if __name__ == "__main__":
    main()
