"""A Kubernetes cluster for tests: the control plane, and what is known of it to clients."""

from pathlib import Path

from env.process import wait_until

from . import programs
from .client import Access, Client
from .control_plane import ApiServer, ControllerManager, Etcd

ROOT = Path(__file__).resolve().parents[2]
CRDS = ROOT / "infra" / "kubernetes" / "crds"
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Cluster:
    """etcd, API server and controller manager, with KubeRay's CRDs; without nodes (see kuberay.py for those).

    The three are attributes, so a test may stop, kill and restart each.
    """

    def __init__(self, egress: Path | None = None):
        self.programs = programs.control_plane()
        self.etcd = Etcd(self.programs)
        self.api = ApiServer(self.programs, self.etcd, egress)
        self.controllers = ControllerManager(self.programs, self.api)

    @property
    def client(self) -> Client:
        """Calls as the admin."""
        return self.api.client

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.api.folder / "kubeconfig"

    def start(self) -> "Cluster":
        try:
            self.etcd.start()
            self.api.start()
            self.kubeconfig.write_text(self.api.admin.kubeconfig())
            self.controllers.start()
            self.apply_crds(*sorted(CRDS.glob("*.yaml")))
        except BaseException:
            self.remove()
            raise
        return self

    def apply_crds(self, *files: Path) -> None:
        """Apply CRDs and wait until their objects can be listed."""
        paths = []
        for file in files:
            group, _, plural = file.stem.partition("_")
            applied = self.client.apply(f"{CRD_PATH}/{plural}.{group}", file.read_text())
            served = [version["name"] for version in applied["spec"]["versions"] if version["served"]]
            paths += [f"/apis/{group}/{version}/{plural}?limit=1" for version in served]
        ready = wait_until(lambda: all(self.client.raw("GET", path)[0] == 200 for path in paths), 60)
        assert ready, f"the CRDs are not served after 60 s: {', '.join(paths)}"

    def namespace(self, name: str) -> str:
        """Make a namespace with its service account, if it isn't there."""
        self.client.apply(f"/api/v1/namespaces/{name}", f'{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}}}}')
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        assert wait_until(lambda: self.client.raw("GET", account)[0] == 200, 30), f"no service account in {name}"
        return name

    def account(self, namespace: str, name: str, lifetime_s: float = 3600) -> Access:
        """Access as this service account, which must exist, with a token good for so long."""
        found = self.client.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")
        token = self.api.certificates.account_token(namespace, name, found["metadata"]["uid"], lifetime_s)
        return Access(self.api.admin.address, self.api.admin.ca, token, name)

    def remove(self) -> None:
        for server in (self.controllers, self.api, self.etcd):
            server.remove()

    def __enter__(self) -> "Cluster":
        return self.start()

    def __exit__(self, *_):
        self.remove()
