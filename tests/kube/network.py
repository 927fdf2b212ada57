"""The way from the API server to pods and kubelets: HTTP CONNECT on a Unix socket.

The addresses of pods and nodes are of ranges that no one has, and nothing is ever sent to them: the API server hands
each connection to this proxy (its egress selector), which knows what is behind the address. So neither root nor a
network namespace is needed, and a pod's port 8265 can be a Ray head on loopback.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

LIMIT = 65_536


class Proxy:
    """Serves until its event loop ends; `route(host, port)` gives the loopback port behind an address, or None."""

    def __init__(self, socket: Path, route: Callable[[str, int], int | None]):
        self.socket, self.route = socket, route

    async def serve(self) -> None:
        server = await asyncio.start_unix_server(self._connection, str(self.socket), limit=LIMIT)
        async with server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()
            host, _, port = request.split()[1].rpartition(":")
            target = self.route(host.strip("[]"), int(port))
            if target is None:
                return await _answer(writer, "502 No route to host")
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
        except (OSError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            return await _answer(writer, "502 Connection refused")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))


async def _answer(writer: asyncio.StreamWriter, status: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, until either end closes."""
    try:
        while data := await reader.read(LIMIT):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
