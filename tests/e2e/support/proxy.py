"""Links that can be cut, or that lose answers: TCP proxies on loopback."""

import select
import socket
import threading


class Proxy:
    """Passes connections on to a port until it is cut; while it is cut, it refuses new ones."""

    def __init__(self, target_port: int):
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._cut = self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """What a client uses instead of the real port."""
        return self._listener.getsockname()[1]

    @property
    def address(self) -> str:
        """What an HTTP client uses instead of the real address."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Ends every connection and refuses new ones."""
        with self._lock:
            self._cut = True
            self._drop_all()

    def mend(self) -> None:
        """Lets connections through again."""
        with self._lock:
            self._cut = False

    def close(self) -> None:
        """Ends it for good."""
        with self._lock:
            self._closed = self._cut = True
            self._drop_all()
        self._listener.close()

    def _drop_all(self) -> None:
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._open.clear()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError:
                return
            with server:
                with self._lock:
                    if self._cut:
                        return
                    self._open |= {client, server}
                self._pass_on(client, server)
                with self._lock:
                    self._open -= {client, server}

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        try:
            while True:
                for ready in select.select(list(other), [], [])[0]:
                    data = ready.recv(65_536)
                    if not data:
                        return
                    other[ready].sendall(data)
                    if ready is client and self._loses_answer(data):
                        server.recv(65_536)  # it has been carried out; nobody will know
                        if self._cut:
                            self.cut()
                        return
        except (OSError, ValueError):
            return  # cut

    def _loses_answer(self, _request: bytes) -> bool:
        """Whether the answer to this is lost, and the connection with it."""
        return False


class LosesCommits(Proxy):
    """A link to a database that, now and then, is cut after a COMMIT was carried out and before its answer came.

    It begins to do so with `begin`.
    """

    COMMIT = b"\x03COMMIT"  # the protocol's 'query', after length and number of the packet

    def __init__(self, target_port: int, every: int):
        self.lost = 0
        self._every = every
        self._commits = 0
        self._begun = False
        super().__init__(target_port)

    def begin(self) -> None:
        """From now on answers are lost."""
        self._begun = True

    def _loses_answer(self, request: bytes) -> bool:
        if not self._begun or request[4 : 4 + len(self.COMMIT)] != self.COMMIT:
            return False
        with self._lock:
            self._commits += 1
            lose = self._commits % self._every == 0
            self.lost += lose
        return lose


class CutsAfterCommit(Proxy):
    """A link to a database that loses the answer to the COMMIT of the first submission, and is cut from then on."""

    INSERT = b"INSERT INTO receipts"  # as it is prepared, once for each connection

    def __init__(self, target_port: int):
        self.lost = False
        self._here = threading.local()  # every connection is passed on by a thread of its own
        super().__init__(target_port)

    def _loses_answer(self, request: bytes) -> bool:
        self._here.inserts = getattr(self._here, "inserts", False) or self.INSERT in request
        commits = request[4 : 4 + len(LosesCommits.COMMIT)] == LosesCommits.COMMIT
        if self.lost or not commits or not self._here.inserts:
            return False
        self.lost = True
        self._cut = True
        return True
