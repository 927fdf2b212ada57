"""A receiver of webhooks: an HTTP server on loopback that checks signatures, and answers as it is told to."""

import base64
import hmac
import json
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable

from env.process import free_ports


def new_secret() -> str:
    """A secret of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """What a message must be signed with: written here from the convention, not from the program under test."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, "sha256").digest()
    return "v1," + base64.b64encode(digest).decode()


@dataclass
class Arrival:
    """A message, as it came."""

    id: str
    path: str
    body: dict
    raw: bytes
    timestamp: int
    signatures: list[str]
    status: int
    at: float

    def is_signed_by(self, secret: str) -> bool:
        """Whether one of its signatures is by this secret."""
        return signature(secret, self.id, str(self.timestamp), self.raw) in self.signatures


class Receiver:
    """Listens on a port of its own from `up` until `down`; may come up again on the same one."""

    def __init__(self, answer: Callable[[Arrival, int], int] = lambda arrival, nth: 200):
        self.port = free_ports(1)[0]
        self.answer = answer
        self.arrivals: list[Arrival] = []
        # Cleared: messages are taken, and the answer is held back.
        self.speaks = threading.Event()
        self.speaks.set()
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """Where it is called."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Receiver":
        return self.up()

    def __exit__(self, *_) -> None:
        self.speaks.set()
        self.down()

    def up(self) -> "Receiver":
        """Begins to listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                receiver._connections.add(self.connection)

            def finish(self) -> None:
                receiver._connections.discard(self.connection)
                super().finish()

            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_) -> None:
                """A caller that has been killed is nothing to report."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def down(self) -> None:
        """Ends every connection and refuses new ones."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _take(self, call: BaseHTTPRequestHandler) -> None:
        raw = call.rfile.read(int(call.headers["content-length"]))
        arrival = Arrival(
            id=call.headers["webhook-id"],
            path=call.path,
            body=json.loads(raw),
            raw=raw,
            timestamp=int(call.headers["webhook-timestamp"]),
            signatures=call.headers["webhook-signature"].split(" "),
            status=0,
            at=time.monotonic(),
        )
        with self._lock:
            arrival.status = self.answer(arrival, len(self.arrivals))
            self.arrivals.append(arrival)
        self.speaks.wait(60)
        call.send_response(arrival.status)
        call.send_header("content-length", "0")
        call.end_headers()

    def taken(self, path: str = "/") -> list[Arrival]:
        """What it has said yes to, in the order of arrival, doubles included."""
        with self._lock:
            return [a for a in self.arrivals if a.status < 300 and a.path == path]

    def once(self, path: str = "/") -> list[Arrival]:
        """The same without doubles: each at its first arrival."""
        return list({arrival.id: arrival for arrival in reversed(self.taken(path))}.values())[::-1]

    def by_key(self, path: str = "/") -> dict[str, list[str]]:
        """What it was told of each key, in order."""
        events: dict[str, list[str]] = {}
        for arrival in self.once(path):
            events.setdefault(arrival.body["key"], []).append(arrival.body["event"])
        return events
