"""A cluster on which RayJobs run: nodes, a small kubelet, the real KubeRay operator, and a real Ray head behind it all."""

import dataclasses
import json
import sys
from pathlib import Path

from env.process import HOST, Server, free_ports, http
from env.ray_head import RayHead

from . import kubelet, programs
from .cluster import Cluster
from .heads import OpenRayHead

NODES = [
    {"name": "cpu-1", "cpu": 16, "memory": "64Gi", "labels": {"pool": "cpu"}},
    {"name": "cpu-2", "cpu": 16, "memory": "64Gi", "labels": {"pool": "cpu"}},
    {"name": "gpu-1", "cpu": 16, "memory": "64Gi", "gpu": 8, "labels": {"pool": "gpu", "nvidia.com/gpu.product": "A100"}},
]


class Kubelet(Server):
    """The process of kubelet.py."""

    def __init__(self, cluster: Cluster, socket: Path, head: RayHead):
        super().__init__("kubelet")
        self.cluster, self.socket, self.head = cluster, socket, head
        [self.fake_dashboard] = free_ports(1)

    def command(self) -> list[str]:
        own = self.cluster.api.certificates
        config = kubelet.Config(
            str(self.cluster.kubeconfig), str(self.folder), str(self.socket), self.head.port, self.fake_dashboard,
            str(self.head.python.parent), str(own.server), str(own.server_key),
        )  # fmt: skip
        path = self.folder / "config.json"
        path.write_text(json.dumps(dataclasses.asdict(config)))
        self.socket.unlink(missing_ok=True)
        return [sys.executable, kubelet.__file__, str(path)]

    def is_ready(self) -> bool:
        return self.socket.exists()


class Operator(Server):
    """The KubeRay operator; it reaches each cluster's head through the API server's service proxy."""

    start_timeout_s = 120.0

    def __init__(self, cluster: Cluster):
        super().__init__("kuberay-operator")
        self.program, self.cluster = programs.operator(), cluster
        self._metrics, self._probe = free_ports(2)

    def command(self) -> list[str]:
        return [
            str(self.program),
            "--use-kubernetes-proxy",
            "--enable-leader-election=false",
            f"--metrics-addr={HOST}:{self._metrics}",
            f"--health-probe-bind-address={HOST}:{self._probe}",
            "--reconcile-concurrency=8",
            "--qps=500",
            "--burst=1000",
        ]

    def environment(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self.cluster.kubeconfig)}

    def is_ready(self) -> bool:
        try:
            return http("GET", f"http://{HOST}:{self._probe}/readyz", timeout_s=5)[0] == 200
        except OSError:
            return False


class KubeRay:
    """Everything together. All that the tests may stop or kill is an attribute."""

    def __init__(self, nodes: list[dict] | None = None, num_cpus: int = 8):
        self.head = OpenRayHead("kube", num_cpus=num_cpus)
        socket = self.head.folder / "egress"
        self.cluster = Cluster(egress=socket)
        self.kubelet = Kubelet(self.cluster, socket, self.head)
        self.operator = Operator(self.cluster)
        self.nodes = NODES if nodes is None else nodes

    @property
    def client(self):
        """Calls to the API server as the admin."""
        return self.cluster.client

    def start(self) -> "KubeRay":
        try:
            self.cluster.start()
            self.cluster.apply_crds(Path(__file__).parent / "ray.io_rayservices.yaml")
            for index, node in enumerate(self.nodes):
                self.add_node(index, **node)
            self.head.start()
            self.kubelet.start()
            self.operator.start()
        except BaseException:
            self.remove()
            raise
        return self

    def add_node(self, index: int, name: str, cpu: float, memory: str, gpu: int = 0, labels: dict | None = None) -> None:
        """A node that is ready and untainted."""
        capacity = {"cpu": str(cpu), "memory": memory, "pods": "2000", "ephemeral-storage": "1Ti"}
        if gpu:
            capacity["nvidia.com/gpu"] = str(gpu)
        status = {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "for tests"}],
            "addresses": [{"type": "InternalIP", "address": f"198.51.100.{index + 1}"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.KUBELET_PORT}},
        }
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
        self.client.create("/api/v1/nodes", {"metadata": metadata, "status": status})
        # A new node is tainted until it's seen ready, by a controller that we don't run.
        self.client.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": None}})

    def restart_api(self) -> None:
        """Restart the API server, and its clients of the cluster's own with it.

        Each of their watches that has been refused asks again after a pause that grows with every restart, up to a minute.
        """
        self.cluster.api.restart()
        self.cluster.controllers.restart()
        self.operator.restart()

    def remove(self) -> None:
        for server in (self.operator, self.kubelet, self.head):
            server.remove()
        self.cluster.remove()

    def __enter__(self) -> "KubeRay":
        return self.start()

    def __exit__(self, *_):
        self.remove()
