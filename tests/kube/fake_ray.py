"""A dashboard that runs nothing, for tests of thousands of RayJobs: a real Ray takes a second of a core for each.

It knows what the operator and the driver ask of a head. A job whose entrypoint is `sleep N` is RUNNING for so long,
`exit N` fails if N isn't 0, all else succeeds at once. A pod gets it by the annotation `yard.test/dashboard: fake`.
"""

import asyncio
import json
import re
import time
from dataclasses import dataclass, field


@dataclass
class Job:
    id: str
    entrypoint: str
    begun: float = field(default_factory=time.time)
    stopped: float | None = None

    def view(self, now: float) -> dict:
        """As Ray's `GET /api/jobs/ID` shows it."""
        sleep = re.fullmatch(r"sleep (\d+)", self.entrypoint)
        code = re.fullmatch(r"exit (\d+)", self.entrypoint)
        end = self.stopped or self.begun + (float(sleep.group(1)) if sleep else 0)
        failed = bool(code and code.group(1) != "0")
        status = "RUNNING" if end > now else "STOPPED" if self.stopped else "FAILED" if failed else "SUCCEEDED"
        message = f"Job entrypoint command failed with exit code {code.group(1)}" if failed else f"the job is {status}"
        end_ms = int(end * 1000) if status != "RUNNING" else None
        times = {"start_time": int(self.begun * 1000), "end_time": end_ms}
        return {
            "type": "SUBMISSION", "submission_id": self.id, "job_id": None, "entrypoint": self.entrypoint,
            "status": status, "message": message, **times,
        }  # fmt: skip


class FakeRay:
    """All heads' jobs in one: their ids are unlike each other."""

    def __init__(self):
        self.jobs: dict[str, Job] = {}

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", port)
        async with server:
            await server.serve_forever()

    def answer(self, method: str, path: str, body: bytes, now: float) -> tuple[int, object]:
        """The status and the JSON of an answer."""
        parts = path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "version"]:
            return 200, {"version": "4", "ray_version": "fake", "ray_commit": "none"}
        if parts[:2] != ["api", "jobs"]:
            return 404, "not found"
        if len(parts) == 2 and method == "POST":
            asked = json.loads(body)
            job = self.jobs.setdefault(asked["submission_id"], Job(asked["submission_id"], asked["entrypoint"], now))
            return 200, {"job_id": job.id, "submission_id": job.id}
        if len(parts) == 2:
            return 200, [job.view(now) for job in self.jobs.values()]
        job = self.jobs.get(parts[2])
        if job is None:
            return 404, f"Job {parts[2]} does not exist"
        if parts[3:] == ["stop"]:
            running = job.view(now)["status"] == "RUNNING"
            job.stopped = now if running else job.stopped
            return 200, {"stopped": running}
        return 200, {"logs": ""} if parts[3:] == ["logs"] else job.view(now)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, path, _ = head.split(" ", 2)
                length = re.search(r"(?im)^content-length: *(\d+)", head)
                body = await reader.readexactly(int(length.group(1))) if length else b""
                status, value = self.answer(method, path, body, time.time())
                text = json.dumps(value).encode()
                writer.write(f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode())
                writer.write(text)
                await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
