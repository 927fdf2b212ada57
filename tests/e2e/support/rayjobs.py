"""RayJobs made and looked at directly at the API server, as kubectl would."""

import json

from .wait import until

ENDED = ("Complete", "Failed", "ValidationFailed")


def document(name: str, entrypoint: str, *, annotations: dict | None = None, cpu: str = "1", **spec) -> dict:
    """A RayJob in HTTPMode whose Ray cluster is one head; `annotations` are put on its pods."""
    container = {"name": "ray-head", "image": "ray", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}}
    pod = {"metadata": {"annotations": annotations or {}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name},
        "spec": {
            "submissionMode": "HTTPMode",
            "entrypoint": entrypoint,
            "shutdownAfterJobFinishes": True,
            "rayClusterSpec": {"headGroupSpec": {"rayStartParams": {}, "template": pod}},
            **spec,
        },
    }


class RayJobs:
    """Those of one namespace."""

    def __init__(self, client, namespace: str):
        self.client, self.namespace = client, namespace

    def path(self, name: str = "", resource: str = "rayjobs") -> str:
        return f"/apis/ray.io/v1/namespaces/{self.namespace}/{resource}{'/' if name else ''}{name}"

    def apply(self, job: dict) -> dict:
        return self.client.apply(self.path(job["metadata"]["name"]), json.dumps(job))

    def status(self, name: str) -> dict:
        return self.client.get(self.path(name)).get("status") or {}

    def wait(self, name: str, timeout_s: float = 60) -> dict:
        """Its status once the operator is done with it."""
        found = lambda: (status := self.status(name)).get("jobDeploymentStatus") in ENDED and status  # noqa: E731
        return until(f"the RayJob {name} has ended", found, timeout_s)

    def delete(self, name: str) -> None:
        self.client.delete(self.path(name))

    def names(self, resource: str = "rayjobs") -> list[str]:
        return [item["metadata"]["name"] for item in self.client.get(self.path(resource=resource))["items"]]

    def pods(self, **labels: str) -> list[dict]:
        """Pods with these labels; `_` stands for `-`, and the labels are those of ray.io."""
        selector = ",".join(f"ray.io/{key.replace('_', '-')}={value}" for key, value in labels.items())
        return self.client.get(f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={selector}")["items"]

    def pods_of(self, job: str) -> list[dict]:
        """All pods of a job of Switchyard's, the submitter's too."""
        return self.client.get(f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=yard.job={job}")["items"]

    def scale_up(self, cluster: str) -> None:
        """All workers that there may be, as Ray's autoscaler would ask for them."""
        groups = self.client.get(self.path(cluster, "rayclusters"))["spec"]["workerGroupSpecs"]
        wanted = [{**group, "replicas": group["maxReplicas"]} for group in groups]
        self.client.patch(self.path(cluster, "rayclusters"), {"spec": {"workerGroupSpecs": wanted}})

    def services(self) -> list[str]:
        """The Services that the operator has made for Ray clusters."""
        path = f"/api/v1/namespaces/{self.namespace}/services?labelSelector=ray.io/cluster"
        return [item["metadata"]["name"] for item in self.client.get(path)["items"]]

    def clear(self) -> None:
        """Delete all, and wait until nothing that they made is left."""
        self.client.delete(self.path())
        until("all RayJobs are gone", lambda: not self.names(), 60)
        until("all RayClusters are gone", lambda: not self.names("rayclusters"), 60)
        until("all pods and services are gone", lambda: not self.pods() and not self.services(), 60)
