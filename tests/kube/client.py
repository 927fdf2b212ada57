"""A small client of the Kubernetes API: JSON over one kept connection per thread."""

import base64
import http.client
import json
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 60


class ApiError(Exception):
    """An answer that is an error; `reason` is Kubernetes' own, such as Conflict or Expired."""

    def __init__(self, method: str, path: str, status: int, body: str):
        self.status, self.body = status, body
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = {}
        self.reason = parsed.get("reason", "")
        super().__init__(f"{method} {path}: {status} {parsed.get('message', body)[:400]}")


@dataclass
class Access:
    """Where the API server is, and as whom we call it."""

    address: str  # https://host:port
    ca: Path
    token: str
    user: str = "admin"

    def kubeconfig(self, namespace: str = "default") -> str:
        """The same as a kubeconfig (JSON, which is YAML too)."""
        ca = base64.b64encode(self.ca.read_bytes()).decode()
        cluster = {"server": self.address, "certificate-authority-data": ca}
        context = {"cluster": "test", "user": self.user, "namespace": namespace}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": self.user, "user": {"token": self.token}}],
                "contexts": [{"name": "test", "context": context}],
            },
            indent=1,
        )

    @staticmethod
    def read(kubeconfig: Path, ca: Path) -> "Access":
        """Back from such a kubeconfig; the CA goes to the file `ca`."""
        parsed = json.loads(kubeconfig.read_text())
        cluster, user = parsed["clusters"][0]["cluster"], parsed["users"][0]
        ca.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        return Access(cluster["server"], ca, user["user"]["token"], user["name"])


class Client:
    """Calls as one user. Threads may share it."""

    def __init__(self, access: Access):
        self.access = access
        self._url = urllib.parse.urlsplit(access.address)
        self._tls = ssl.create_default_context(cafile=str(access.ca))
        self._local = threading.local()

    def get(self, path: str):
        return self.call("GET", path)

    def create(self, path: str, body: dict):
        return self.call("POST", path, body)

    def patch(self, path: str, body: dict, kind: str = "merge"):
        """A merge patch, or a `strategic-merge` one, or with `json` a list of steps."""
        return self.call("PATCH", path, body, f"application/{kind}-patch+json")

    def delete(self, path: str, grace_s: int | None = None):
        return self.call("DELETE", path, None if grace_s is None else {"gracePeriodSeconds": grace_s})

    def apply(self, path: str, text: str, owner: str = "tests"):
        """A server-side apply of one YAML (or JSON) document."""
        return self.call("PATCH", f"{path}?fieldManager={owner}&force=true", text, "application/apply-patch+yaml")

    def call(self, method: str, path: str, body=None, content_type: str = "application/json"):
        """One request; the parsed answer (text, where it isn't JSON), or `ApiError`."""
        status, text = self.raw(method, path, body, content_type)
        if status >= 400:
            raise ApiError(method, path, status, text)
        try:
            return json.loads(text)
        except ValueError:
            return text

    def raw(self, method: str, path: str, body=None, content_type: str = "application/json") -> tuple[int, str]:
        """One request; status and text whatever they are. A kept connection that was closed is opened again once."""
        data = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
        for last_try in (False, True):
            kept = getattr(self._local, "connection", None)
            connection = kept or self._connect()
            try:
                connection.request(method, path, data, self._headers(content_type))
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
                self._local.connection = connection
                return answer.status, text
            except (http.client.HTTPException, OSError):
                connection.close()
                self._local.connection = None
                if last_try or not kept:
                    raise
        raise AssertionError("unreachable")

    def watch(self, path: str, version: str) -> Iterator[dict]:
        """The events of a watch from this version on, until the server ends it; an ERROR event raises `ApiError`."""
        connection = self._connect()
        separator = "&" if "?" in path else "?"
        where = f"{path}{separator}watch=1&allowWatchBookmarks=true&resourceVersion={version}"
        try:
            connection.request("GET", where, None, self._headers("application/json"))
            answer = connection.getresponse()
            if answer.status >= 400:
                raise ApiError("WATCH", path, answer.status, answer.read().decode(errors="replace"))
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError("WATCH", path, event["object"].get("code", 0), json.dumps(event["object"]))
                yield event
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._url.hostname, self._url.port, timeout=TIMEOUT_S, context=self._tls)

    def _headers(self, content_type: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access.token}", "Content-Type": content_type, "Accept": "application/json"}
