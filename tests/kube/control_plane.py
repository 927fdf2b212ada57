"""etcd, the API server and the controller manager: each one process of its own on loopback."""

import datetime
import json
import secrets
from pathlib import Path

from env.process import HOST, Server, free_ports, http

from .certificates import ISSUER, Certificates
from .client import Access, ApiError, Client
from .programs import Programs

# For documentation (RFC 5737) and benchmarks (RFC 2544): addresses that no one has. Nothing is sent there: see network.py.
SERVICE_ADDRESSES = "198.18.0.0/16"

# Of what the controller manager can do, what a RayJob and a Deployment of ours need.
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",  # the API server's service proxy goes by Endpoints
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "ttl-after-finished-controller",
)


class Etcd(Server):
    """etcd with one member. Data outlive `restart` and `kill`, though not a crash of the machine (no fsync)."""

    def __init__(self, programs: Programs):
        super().__init__("etcd")
        self.program = programs.etcd
        self.port, self._peer = free_ports(2)

    @property
    def address(self) -> str:
        """Its client address; it also takes JSON there."""
        return f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        peer = f"http://{HOST}:{self._peer}"
        return [
            str(self.program),
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={self.address}",
            f"--advertise-client-urls={self.address}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def is_ready(self) -> bool:
        try:
            return http("GET", f"{self.address}/readyz", timeout_s=5)[0] == 200
        except OSError:
            return False

    def compact(self) -> int:
        """Forget every revision but the newest, as the API server does each five minutes; returns that one."""
        status, text = http("POST", f"{self.address}/v3/kv/range", {"key": "AA==", "limit": "1"})
        assert status == 200, text
        revision = int(json.loads(text)["header"]["revision"])
        status, text = http("POST", f"{self.address}/v3/kv/compaction", {"revision": str(revision), "physical": True})
        assert status == 200, text
        return revision


class ApiServer(Server):
    """kube-apiserver with RBAC. Port, certificates and the admin's token outlive `restart`.

    `extra` are more of its options, taken at the next start.
    """

    start_timeout_s = 120.0

    def __init__(self, programs: Programs, etcd: Etcd, egress: Path | None = None):
        super().__init__("kube-apiserver")
        self.program, self.etcd, self.egress = programs.apiserver, etcd, egress
        self.port = free_ports(1)[0]
        self.certificates = Certificates(self.folder / "certificates")
        self.extra: list[str] = []
        self.admin = Access(f"https://{HOST}:{self.port}", self.certificates.ca, secrets.token_hex(16))
        (self.folder / "tokens.csv").write_text(f"{self.admin.token},admin,admin,system:masters\n")
        self.client = Client(self.admin)

    def command(self) -> list[str]:
        own = self.certificates
        options = {
            "etcd-servers": self.etcd.address,
            "etcd-prefix": "/registry",
            "bind-address": HOST,
            "secure-port": self.port,
            "tls-cert-file": own.server,
            "tls-private-key-file": own.server_key,
            "authorization-mode": "RBAC",
            "token-auth-file": self.folder / "tokens.csv",
            "service-account-issuer": ISSUER,
            "service-account-key-file": own.accounts_public,
            "service-account-signing-key-file": own.accounts_key,
            "service-cluster-ip-range": SERVICE_ADDRESSES,
            "endpoint-reconciler-type": "none",  # it would announce itself, and must not with a loopback address
            "kubelet-preferred-address-types": "InternalIP",
            "shutdown-delay-duration": "0s",
            "audit-policy-file": self._write_audit_policy(),
            "audit-log-path": self.folder / "audit.log",
            "v": 1,
        }
        if self.egress:
            options["egress-selector-config-file"] = self._write_egress(self.egress)
        return [str(self.program), *(f"--{key}={value}" for key, value in options.items()), *self.extra]

    def is_ready(self) -> bool:
        try:
            return self.client.raw("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def asked(self, user: str) -> list[dict]:
        """What this service account has asked for: verb, group, resource, subresource (`part`), when, and the answer's code.

        The resource is empty where it asked for none, but for what the API server has. Dry runs are left out.
        """
        path, found = self.folder / "audit.log", []
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # the last line may be half written
        for line in whole.splitlines():
            event = json.loads(line)
            if event["user"]["username"] == user and "dryRun=All" not in event["requestURI"]:
                what = event.get("objectRef", {})
                parts = {"group": what.get("apiGroup", ""), "resource": what.get("resource", ""), "part": what.get("subresource", "")}
                code = event.get("responseStatus", {}).get("code", 0)
                at = datetime.datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00")).timestamp()
                place = {"namespace": what.get("namespace", ""), "name": what.get("name", "")}
                found.append({"verb": event["verb"], **parts, **place, "code": code, "at_s": at})
        return found

    def _write_audit_policy(self) -> Path:
        """Only what service accounts of a namespace of ours do: neither the admin nor Kubernetes' own controllers."""
        levels = [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system", "system:masters"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ]
        document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": levels}
        path = self.folder / "audit-policy.json"
        path.write_text(json.dumps(document))
        return path

    def _write_egress(self, socket: Path) -> Path:
        """All that it sends to pods and kubelets goes through this Unix socket (HTTP CONNECT)."""
        connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": str(socket)}}}
        document = {
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{"name": "cluster", "connection": connection}],
        }
        path = self.folder / "egress.json"
        path.write_text(json.dumps(document))
        return path


class ControllerManager(Server):
    """kube-controller-manager with the controllers named above."""

    start_timeout_s = 120.0

    def __init__(self, programs: Programs, api: ApiServer):
        super().__init__("kube-controller-manager")
        self.program, self.api = programs.controller_manager, api

    def command(self) -> list[str]:
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(self.api.admin.kubeconfig())
        return [
            str(self.program),
            f"--kubeconfig={kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--service-account-private-key-file={self.api.certificates.accounts_key}",
            f"--root-ca-file={self.api.certificates.ca}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=500",
            "--concurrent-gc-syncs=20",
            "--v=1",
        ]

    def is_ready(self) -> bool:
        """Whether it does its work: the first that it makes is each namespace's own service account."""
        try:
            self.api.client.get("/api/v1/namespaces/default/serviceaccounts/default")
        except (ApiError, OSError):
            return False
        return True
