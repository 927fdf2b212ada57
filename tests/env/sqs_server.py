"""An SQS-compatible server: ministack, with only SQS switched on."""

from pathlib import Path

from . import provision
from .process import HOST, Server, free_ports, http


class MiniStack(Server):
    """One SQS endpoint. Queues and messages outlive `restart`, but not `kill`.

    ministack writes its state only when it ends in order. After `kill` it goes
    back to the last such state: newer messages are gone, and deleted ones are
    there again. The real SQS does neither, so kill it only to test for that.
    """

    # Any credentials do; a client needs some, and a region.
    credentials = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }

    def __init__(self, folder: Path | None = None):
        super().__init__("ministack", folder)
        self.python = provision.python()
        self.port = free_ports(1)[0]

    @property
    def endpoint(self) -> str:
        """The address that an SQS client is given as its endpoint."""
        return f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        return [str(self.python), "-m", "ministack"]

    def environment(self) -> dict[str, str]:
        return {
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_HOST": HOST,
            "SERVICES": "sqs,s3",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.folder / "state"),
            "TMPDIR": str(self.folder),
            "LOG_LEVEL": "WARNING",
            **self.credentials,
        }

    def is_ready(self) -> bool:
        try:
            return http("GET", f"{self.endpoint}/_ministack/ready", timeout_s=5)[0] == 200
        except OSError:
            return False
