"""An issuer of tokens: real keys, a real key set and discovery document over HTTP."""

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

AUDIENCE = "switchyard"


class Issuer:
    """Serves its public keys while it is entered; `down` makes it answer with errors."""

    def __init__(self):
        self._keys = {algorithm: _key(algorithm) for algorithm in ("RS256", "ES256", "EdDSA")}
        self._others = {algorithm: _key(algorithm) for algorithm in ("RS256", "ES256", "EdDSA")}
        self.asked = 0
        self.down = False

    def __enter__(self) -> "Issuer":
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            """Two documents."""

            def do_GET(self):
                issuer._answer(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def section(self, **keys) -> dict:
        """Its part of a configuration."""
        return {"name": "corp", "issuer": self.url, "audience": AUDIENCE, **keys}

    @staticmethod
    def now() -> int:
        """Seconds since the epoch."""
        return int(time.time())

    def claims(self, subject: str) -> dict:
        """What every token of it has."""
        return {"iss": self.url, "aud": AUDIENCE, "sub": subject, "exp": self.now() + 600}

    def sign(self, claims: dict, algorithm: str = "RS256", kid: str | None = None, stolen: bool = False) -> str:
        """A token; `stolen`: signed by a key of somebody else who uses the name of ours."""
        key = (self._others if stolen else self._keys)[algorithm]
        head = _part({"alg": algorithm, "typ": "JWT", "kid": kid or algorithm.lower()})
        message = f"{head}.{_part(claims)}"
        return f"{message}.{_base64(_signature(key, algorithm, message.encode()))}"

    def unsigned(self, claims: dict) -> str:
        """`alg: none`."""
        return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."

    def by_public_key_as_secret(self, claims: dict) -> str:
        """HS256, with the public key taken for a shared secret."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public = self._keys["RS256"].public_key().public_bytes(serialization.Encoding.PEM, form)
        message = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'rs256'})}.{_part(claims)}"
        return f"{message}.{_base64(hmac.digest(public, message.encode(), hashlib.sha256))}"

    def tampered(self, claims: dict, others: dict) -> str:
        """The signature of one token under the claims of another."""
        head, _, signature = self.sign(claims).split(".")
        return f"{head}.{_part(others)}.{signature}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        documents = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [_public(key, algorithm) for algorithm, key in self._keys.items()]},
        }
        self.asked += request.path == "/keys"
        document = None if self.down else documents.get(request.path)
        body = json.dumps(document or {}).encode()
        request.send_response(200 if document else 503)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


def _key(algorithm: str):
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def _signature(key, algorithm: str, message: bytes) -> bytes:
    if algorithm == "RS256":
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    if algorithm == "ES256":
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return key.sign(message)


def _public(key, algorithm: str) -> dict:
    common = {"kid": algorithm.lower(), "use": "sig", "alg": algorithm}
    public = key.public_key()
    if algorithm == "RS256":
        numbers = public.public_numbers()
        return {**common, "kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e)}
    if algorithm == "ES256":
        numbers = public.public_numbers()
        point = {name: _base64(value.to_bytes(32, "big")) for name, value in (("x", numbers.x), ("y", numbers.y))}
        return {**common, "kty": "EC", "crv": "P-256", **point}
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {**common, "kty": "OKP", "crv": "Ed25519", "x": _base64(raw)}


def _integer(number: int) -> str:
    return _base64(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _part(value: dict) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
