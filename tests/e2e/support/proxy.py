"""A link to a cluster that can be cut: a TCP proxy on loopback."""

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
    def address(self) -> str:
        """What a client uses instead of the real address."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

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

    @staticmethod
    def _pass_on(client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        try:
            while True:
                for ready in select.select(list(other), [], [])[0]:
                    data = ready.recv(65_536)
                    if not data:
                        return
                    other[ready].sendall(data)
        except (OSError, ValueError):
            return  # cut
