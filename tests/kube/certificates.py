"""The keys and certificates of one test cluster, and service account tokens signed with its key."""

import base64
import json
import secrets
import shutil
import subprocess
import time
from pathlib import Path

from env.cache import Unavailable
from env.process import HOST

ISSUER = "https://kubernetes.default.svc"  # of service account tokens; only a name


class Certificates:
    """A CA, the API server's certificate, a kubelet's, and the pair that signs service account tokens."""

    def __init__(self, folder: Path):
        if not shutil.which("openssl"):
            raise Unavailable("openssl is not on this machine; it makes the API server's certificates")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self._ca_key = folder / "ca.crt", folder / "ca.key"
        self.server, self.server_key = folder / "server.crt", folder / "server.key"
        self.accounts_key, self.accounts_public = folder / "accounts.key", folder / "accounts.pub"
        if not self.accounts_public.exists():
            self._make()

    def _make(self) -> None:
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        _openssl("req", "-x509", *new_key, "-subj", "/CN=test-ca", "-keyout", self._ca_key, "-out", self.ca)
        names = f"subjectAltName=IP:{HOST},DNS:localhost,DNS:kubernetes.default.svc"
        _openssl(
            "req", "-x509", *new_key, "-subj", "/CN=kube-apiserver", "-addext", names,
            "-addext", "basicConstraints=critical,CA:false", "-CA", self.ca, "-CAkey", self._ca_key,
            "-keyout", self.server_key, "-out", self.server,
        )  # fmt: skip
        _openssl("genrsa", "-out", self.accounts_key, "2048")
        _openssl("rsa", "-in", self.accounts_key, "-pubout", "-out", self.accounts_public)

    def account_token(self, namespace: str, name: str, uid: str, lifetime_s: float) -> str:
        """A token of a service account that the API server takes for so many seconds.

        The API server itself grants none below ten minutes, too long to wait for in a test of what comes after.
        """
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": [ISSUER],
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "iat": now,
            "nbf": now,
            "exp": now + int(lifetime_s),
            "jti": secrets.token_hex(16),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        }
        text = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.accounts_key)]
        signature = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
        return f"{text}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _openssl(*arguments) -> None:
    result = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    if result.returncode:
        raise Unavailable(f"openssl {arguments[0]} failed: {(result.stderr.strip().splitlines() or ['?'])[-1]}")
