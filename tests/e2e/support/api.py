"""The HTTP API, asked of any process that answers."""

import secrets
import time
from typing import Callable

import requests

from .wait import until

# The operator of every installation under test: in its environment, never in its database.
OPERATOR_TOKEN = "operator-" + secrets.token_hex(32)

ENDS = {"succeeded", "failed", "stopped", "expired"}


class Api:
    """A client of one installation. Unless told otherwise it asks whichever process answers."""

    def __init__(self, urls: Callable[[], list[str]]):
        self._urls = urls
        self._session = requests.Session()
        self._session.trust_env = False
        self.use(OPERATOR_TOKEN)

    def use(self, token: str | None) -> None:
        """From here on every request is sent with this token (or none)."""
        self.token = token
        self._session.headers.pop("Authorization", None)
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def with_token(self, token: str | None) -> "Api":
        """A client of the same installation with another token (or none)."""
        other = Api(self._urls)
        other.use(token)
        return other

    def request(self, method: str, path: str, at: str | None = None, **kwargs) -> requests.Response:
        """One request; with `at` only to that process (OSError if it does not answer), else to any, for a while."""
        kwargs.setdefault("timeout", 10)
        deadline = time.monotonic() + 30
        while True:
            for url in [at] if at else self._urls():
                try:
                    return self._session.request(method, url + path, **kwargs)
                except requests.RequestException:
                    if at:
                        raise
            assert time.monotonic() < deadline, f"no process answers {method} {path}"
            time.sleep(0.1)

    def get(self, path: str, **kwargs) -> dict:
        """The JSON of a GET that must succeed."""
        answer = self.request("GET", path, **kwargs)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text[:1000]}"
        return answer.json()

    def submit(self, document: dict, **kwargs) -> requests.Response:
        """POST /v1/jobs. Repeats it while the service is not available: the key makes that harmless."""

        def send() -> list[requests.Response]:
            answer = self.request("POST", "/v1/jobs", json=document, **kwargs)
            return [answer] if answer.status_code < 500 else []  # a Response is false when it is a 4xx

        [answer] = until("the submission is answered", send, 30)
        return answer

    def submitted(self, document: dict) -> str:
        """The id of the job that this document makes."""
        answer = self.submit(document)
        assert answer.status_code in (200, 201), f"{answer.status_code} {answer.text[:1000]}"
        return answer.json()["id"]

    def job(self, job: str) -> dict:
        """One job."""
        return self.get(f"/v1/jobs/{job}")

    def wait_state(self, job: str, *states: str, timeout_s: float = 20.0) -> dict:
        """The job, once it is in one of these states. Fails at once when it has ended in another."""

        def look():
            found = self.job(job)
            if found["state"] not in states and found["state"] in ENDS:
                raise RuntimeError(f"job {job} ended as {found['state']}, not {states}: {found}")
            return found if found["state"] in states else None

        return until(f"job {job} is {' or '.join(states)}", look, timeout_s)

    def wait_end(self, job: str, timeout_s: float = 20.0) -> dict:
        """The job, once it has ended."""
        return self.wait_state(job, *ENDS, timeout_s=timeout_s)

    def history(self, job: str) -> list[dict]:
        """A job's lines of history."""
        return self.get(f"/v1/jobs/{job}/history")["lines"]

    def stop(self, job: str, **kwargs) -> requests.Response:
        """Asks for a job to be stopped."""
        return self.request("POST", f"/v1/jobs/{job}/stop", **{"json": {"reason": "a test"}, **kwargs})

    def receipt(self, team: str, key: str) -> dict | None:
        """The verdict on a submission, if there is one yet."""
        answer = self.request("GET", f"/v1/receipts/{team}/{key}")
        assert answer.status_code in (200, 404), f"{answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.status_code == 200 else None

    def wait_receipt(self, team: str, key: str, timeout_s: float = 20.0) -> dict:
        """The receipt of this key, once there is one."""
        return until(f"{team}/{key} has a receipt", lambda: self.receipt(team, key), timeout_s)

    def metric(self, name: str, at: str, **labels: str) -> float:
        """The sum of one metric's values with these labels, at one process."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = self.request("GET", "/metrics", at=at).text.splitlines()
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name and all(w in line for w in wanted)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)
