"""A namespace that Switchyard drives, with the rights of infra/kubernetes and nothing more."""

import contextlib
import json
import os
import shlex
import subprocess
import threading
from pathlib import Path

from kube.client import Access, Client

from .proxy import Proxy
from .rayjobs import RayJobs
from .wait import until

INFRA = Path(__file__).resolve().parents[3] / "infra" / "kubernetes"
NAMESPACE = "yard-jobs"
ACCOUNT = "yard-dispatcher"

# `real` runs on the Ray head that all share, `own` on one that ends with its pod, `fake` runs nothing, `ill` lets a job say
# how its pods fail. What has ended stays long enough for its logs and evidence to be read on a busy machine; Switchyard
# removes it before.
TEMPLATE = """
default_profile: real
profiles:
  real: {image: ray, ttl_s: 10}
  fake: {image: ray, ttl_s: 0, container: {env: [{name: YARD_TEST_DASHBOARD, value: fake}]}}
  own: {image: ray, ttl_s: 10, container: {env: [{name: YARD_TEST_DASHBOARD, value: own}]}}
  ill: {image: ray, ttl_s: 10, pre_running_deadline_s: 5, job_may_set: [env]}
  submitter: {image: ray, ttl_s: 10, ray_version: 2.46.0, submission_mode: K8sJobMode}
  sidecar: {image: ray, ttl_s: 10, ray_version: 2.46.0, submission_mode: SidecarMode, head_min: {cpu: 1}, gpu_types: {a100: {}}}
"""


class Target:
    """One driven cluster: its API server by a link that can be cut, and who the dispatcher is there.

    With a suffix it is another one, with a namespace, an account and a link of its own, though on the same nodes.
    """

    def __init__(self, kuberay, folder: Path, suffix: str = ""):
        self.kuberay, self.cluster, self.folder = kuberay, kuberay.cluster, folder / f"target{suffix}"
        self.suffix, self.namespace, self.account = suffix, NAMESPACE + suffix, ACCOUNT + suffix
        self.user = f"system:serviceaccount:{self.namespace}:{self.account}"
        self.folder.mkdir()
        self.admin: Client = kuberay.client
        self.link = Proxy(kuberay.cluster.api.port)
        self.jobs = RayJobs(self.admin, self.namespace)
        self.kubeconfig = self.folder / "kubeconfig"
        self.template = self.folder / "template.yaml"

    def prepare(self) -> "Target":
        """Apply the manifests as they are shipped, and write kubeconfig and template."""
        self.kubectl("apply", "-k", str(self._manifests()))
        self.cluster.namespace(self.namespace)
        # The API server takes new rights up a moment after they are there.
        until("its rights are in force", lambda: self.answer_to(self.token(60), "/api/v1/nodes?limit=1") == 200)
        self.template.write_text(TEMPLATE)
        self.write_kubeconfig(3600)
        return self

    def _manifests(self) -> Path:
        """As they are shipped; another cluster's are those with its namespace and its names."""
        shipped = INFRA / "target-cluster"
        if not self.suffix:
            return shipped
        overlay = self.folder / "manifests"
        overlay.mkdir(exist_ok=True)
        base = os.path.relpath(shipped.resolve(), overlay.resolve())
        changes = f"namespace: {self.namespace}\nnameSuffix: {self.suffix}\nresources: [{base}]\n"
        (overlay / "kustomization.yaml").write_text(changes)
        return overlay

    def kubectl(self, *arguments: str) -> str:
        """kubectl as the admin; its output, and no warnings."""
        command = [str(self.cluster.programs.kubectl), f"--kubeconfig={self.cluster.kubeconfig}", *arguments]
        # A home of its own, so that its cache goes with the test.
        environment = {**os.environ, "HOME": str(self.folder)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr.lower(), done.stderr
        return done.stdout

    def token(self, lifetime_s: float) -> str:
        """A token of the dispatcher's account that is good for so long."""
        return self.cluster.account(self.namespace, self.account, lifetime_s).token

    def write_kubeconfig(self, lifetime_s: float) -> None:
        """The dispatcher's kubeconfig, by way of the link, with such a token in it."""
        access = self.cluster.account(self.namespace, self.account, lifetime_s)
        access.address = f"https://127.0.0.1:{self.link.port}"
        self._replace(self.kubeconfig, access.kubeconfig(self.namespace))

    def write_account(self, lifetime_s: float) -> Path:
        """The folder that a pod of the dispatcher's account has mounted, with such a token; written again, the token is another."""
        folder = self.folder / "account"
        folder.mkdir(exist_ok=True)
        access = self.cluster.account(self.namespace, self.account, lifetime_s)
        for name, text in (("ca.crt", access.ca.read_text()), ("namespace", self.namespace), ("token", access.token)):
            self._replace(folder / name, text)
        return folder

    def put_in_pod(self, yard, account: Path) -> None:
        """Has everything of `yard` run where a pod would find itself: this folder mounted where Kubernetes mounts it, in a mount
        namespace of its own (that takes root), and the API server, by way of the link, in its environment."""
        place = "/run/secrets/kubernetes.io/serviceaccount"
        script = f'mount -t tmpfs tmpfs /run && mkdir -p {place} && mount --bind "$0" {place} && exec "$@"'
        command = shlex.join(["unshare", "--mount", "sh", "-c", script, str(account), str(yard.binary)])
        inside = self.folder / "yard-in-pod"
        inside.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        inside.chmod(0o755)
        yard.binary = inside
        yard.environment |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.link.port)}

    def write_exec_kubeconfig(self) -> Path:
        """The same with an exec plugin, which prints the file that is returned."""
        self.write_kubeconfig(1)
        document = json.loads(self.kubeconfig.read_text())
        credential = self.folder / "credential.json"
        plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [str(credential)]}
        document["users"][0]["user"] = {"exec": {**plugin, "interactiveMode": "Never"}}
        self._replace(self.kubeconfig, json.dumps(document))
        return credential

    def write_credential(self, path: Path, lifetime_s: float, expires: str) -> None:
        """What the exec plugin prints: a token, and until when it says that the token is good."""
        status = {"token": self.token(lifetime_s), "expirationTimestamp": expires}
        document = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
        self._replace(path, json.dumps(document))

    def answer_to(self, token: str, path: str) -> int:
        """The status with which the API server answers a GET with this token."""
        access = self.cluster.api.admin
        return Client(Access(access.address, access.ca, token)).raw("GET", path)[0]

    def section(self, **keys) -> dict:
        """Its place in the catalog."""
        cluster = {
            "id": "kube",
            "driver": "kuberay",
            "kubeconfig": str(self.kubeconfig),
            "namespace": self.namespace,
            "template_file": str(self.template),
            "labels": {"kind": "kuberay"},
            "stop_grace_s": 5,
            "liveness_grace_s": 5,
        }
        return {key: value for key, value in {**cluster, **keys}.items() if value is not None}

    def drop_profile(self, name: str) -> None:
        """Take a profile out of the template's file."""
        lines = [line for line in self.template.read_text().splitlines() if not line.startswith(f"  {name}:")]
        self._replace(self.template, "\n".join(lines) + "\n")

    def take_right(self, kind: str, verb: str, resource: str) -> None:
        """Take one verb on one resource out of the Role or the ClusterRole."""
        path = "/apis/rbac.authorization.k8s.io/v1"
        path += f"/namespaces/{self.namespace}/roles/{self.account}" if kind == "Role" else f"/clusterroles/yard-capacity{self.suffix}"
        rules = self.admin.get(path)["rules"]
        for rule in rules:
            if resource in rule["resources"]:
                rule["verbs"] = [given for given in rule["verbs"] if given != verb]
        self.admin.patch(path, {"rules": [rule for rule in rules if rule["verbs"]]})

    @contextlib.contextmanager
    def crowded(self):
        """The API server serves one request at a time of the dispatcher's and of an account that asks without end."""
        flow = "/apis/flowcontrol.apiserver.k8s.io/v1"
        limited = {"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0}
        level = {"type": "Limited", "limited": {**limited, "limitResponse": {"type": "Reject"}}}
        accounts = [{"name": name, "namespace": self.namespace} for name in (self.account, "yard-job" + self.suffix)]
        every = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
        rule = {
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": account} for account in accounts],
            "resourceRules": [every],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }
        schema = {"priorityLevelConfiguration": {"name": "crowd"}, "matchingPrecedence": 2, "rules": [rule]}
        over = threading.Event()
        greedy = Client(self.cluster.account(self.namespace, "yard-job" + self.suffix))

        def ask() -> None:
            while not over.is_set():
                greedy.raw("GET", "/openapi/v2")  # some megabytes: it keeps the place for a while

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(12)]
        self.admin.create(f"{flow}/prioritylevelconfigurations", {"metadata": {"name": "crowd"}, "spec": level})
        self.admin.create(f"{flow}/flowschemas", {"metadata": {"name": "crowd"}, "spec": schema})
        try:
            for thread in threads:
                thread.start()
            yield
        finally:
            over.set()
            self.admin.delete(f"{flow}/flowschemas/crowd")
            self.admin.delete(f"{flow}/prioritylevelconfigurations/crowd")
            for thread in threads:
                thread.join(30)

    def asked(self) -> list[dict]:
        """What the dispatcher has asked of the API server."""
        return self.cluster.api.asked(self.user)

    def close(self) -> None:
        self.link.close()
        self.jobs.clear()

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        """At once: somebody may be reading it."""
        new = path.with_suffix(".new")
        new.write_text(text)
        new.rename(path)
