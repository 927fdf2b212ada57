"""infra/kubernetes, applied to a real API server: it is admitted, it comes up, and it gives no more rights than it says."""

import os
import subprocess
from pathlib import Path

import pytest

from support.wait import until

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra" / "kubernetes"

# What the dispatcher does in a driven cluster, and what it must not be able to do.
ALLOWED = [
    *((verb, "ray.io", "rayjobs", "") for verb in ("get", "list", "watch", "create", "patch", "delete")),
    ("delete", "ray.io", "rayclusters", ""),
    ("list", "", "pods", ""),
    ("list", "", "events", ""),
    *((verb, "", "services", "proxy") for verb in ("get", "create")),
]
FORBIDDEN = [
    ("get", "", "secrets", ""),
    ("list", "", "configmaps", ""),
    ("create", "", "pods", ""),
    ("create", "", "pods", "exec"),
    ("delete", "", "pods", ""),
    ("update", "ray.io", "rayjobs", "status"),
    ("create", "ray.io", "rayclusters", ""),
    ("deletecollection", "ray.io", "rayjobs", ""),
    ("create", "batch", "jobs", ""),
    ("create", "", "serviceaccounts", "token"),
    ("create", "rbac.authorization.k8s.io", "rolebindings", ""),
]


@pytest.fixture
def kubectl(kuberay, folder):
    """kubectl as the admin; its output, and no warnings."""

    def run(*arguments: str) -> str:
        command = [str(kuberay.cluster.programs.kubectl), f"--kubeconfig={kuberay.cluster.kubeconfig}", *arguments]
        # A home of its own, so that its cache goes with the test.
        done = subprocess.run(command, env={**os.environ, "HOME": str(folder)}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr.lower(), done.stderr
        return done.stdout

    return run


def test_the_control_plane_is_admitted_and_comes_up(kuberay, kubectl, folder):
    path = str(INFRA / "control-plane")
    kubectl("apply", "-f", f"{path}/namespace.yaml")  # without it a dry run knows no place for the rest
    dry = kubectl("apply", "-k", path, "--dry-run=server")
    assert dry.count("deployment.apps/yard-") == 4 and dry.count("(server dry run)") == len(dry.splitlines())
    kubectl("apply", "-k", path)
    kubectl("create", "-f", f"{path}/migrate.yaml", "--dry-run=server")

    def available() -> bool:
        items = kuberay.client.get("/apis/apps/v1/namespaces/yard/deployments")["items"]
        return len(items) == 4 and all(item["status"].get("availableReplicas") == 2 for item in items)

    # The pods are those that a real kubelet would get: admitted under the namespace's policy, with quota and accounts.
    until("every Deployment is there", available, 60)
    budgets = lambda: kuberay.client.get("/apis/policy/v1/namespaces/yard/poddisruptionbudgets")["items"]  # noqa: E731
    until("one pod of each may go", lambda: [b["status"].get("disruptionsAllowed") for b in budgets()] == [1] * 4, 60)
    pods = kuberay.client.get("/api/v1/namespaces/yard/pods")["items"]
    service = lambda: kuberay.client.get("/api/v1/namespaces/yard/endpoints/yard").get("subsets") or [{}]  # noqa: E731
    api = {p["status"]["podIP"] for p in pods if p["metadata"]["labels"]["app.kubernetes.io/component"] == "api"}
    until("the Service has the API's pods", lambda: {a["ip"] for a in service()[0].get("addresses", [])} == api, 30)
    kubectl("delete", "-k", path, "--wait=false")


def test_the_dispatcher_may_do_what_it_does_and_no_more(kuberay, kubectl):
    path = str(INFRA / "target-cluster")
    kubectl("apply", "-f", f"{path}/namespace.yaml")
    kubectl("apply", "-k", path, "--dry-run=server")
    kubectl("apply", "-k", path)
    may = lambda *what: allowed(kuberay.client, "yard-jobs", *what)  # noqa: E731
    nodes = lambda: may("list", "", "nodes", "") and may("watch", "", "nodes", "")  # noqa: E731
    until("its rights are in force", lambda: nodes() and all(may(*what) for what in ALLOWED), 60)
    assert [what for what in ALLOWED if not may(*what)] == []
    assert [what for what in FORBIDDEN if may(*what)] == []
    elsewhere = [what for what in ALLOWED if allowed(kuberay.client, "default", *what)]
    assert elsewhere == [("list", "", "pods", "")], "only capacity looks elsewhere"
    every = ("get", "list", "watch", "create", "update", "patch", "delete")
    assert [verb for verb in every if may(verb, "", "nodes", "")] == ["list", "watch"]


def test_in_the_same_cluster_the_rights_are_the_dispatchers_own(kuberay, kubectl):
    kubectl("apply", "-f", str(INFRA / "target-cluster" / "namespace.yaml"))
    kubectl("apply", "-k", str(INFRA / "same-cluster"))
    own, other = "yard:yard-dispatcher", "yard-jobs:yard-dispatcher"
    may = lambda account: [what for what in ALLOWED if allowed(kuberay.client, "yard-jobs", *what, account=account)]  # noqa: E731
    until("what has been applied is in force", lambda: len(may(own)) == len(ALLOWED) and not may(other), 60)
    assert [what for what in ALLOWED if not allowed(kuberay.client, "yard-jobs", *what, account=own)] == []
    assert [what for what in ALLOWED if allowed(kuberay.client, "yard-jobs", *what, account=other)] == []


def allowed(client, namespace: str, verb: str, group: str, resource: str, part: str, account="yard-jobs:yard-dispatcher") -> bool:
    """What the API server says to this, for the dispatcher's service account."""
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": part}
    user = f"system:serviceaccount:{account}"
    review = {"spec": {"user": user, "groups": ["system:serviceaccounts"], "resourceAttributes": attributes}}
    return client.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]


def test_the_configuration_is_valid(binary, folder):
    secrets = {"YARD__DATABASE__URL": "mysql://yard:secret@db.example:3306/yard", "YARD_LINK_KEY": "k" * 32}
    environment = {**os.environ, **secrets}
    command = [str(binary), "check-config", "--config", str(INFRA / "control-plane" / "yard.toml")]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
