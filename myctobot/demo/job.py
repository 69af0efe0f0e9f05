"""The demo's calls of the REST API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final

import httpx

from jobs.contract import JobStatus, TaskType
from myctobot.demo.errors import DemoFailed
from myctobot.demo.events import follow
from myctobot.demo.stack import Access

BRANCH: Final = "fix/average"
TIMEOUT_S: Final = 15
START_TIMEOUT_S: Final = 60
_POLL_S: Final = 0.1
# Every job is in these for a moment; they say nothing about why one waits.
_PASSING: Final = frozenset({"new", "dispatched"})


def job_request(repo_url: str, anthropic_api_key: str | None) -> dict[str, Any]:
    """What the demo asks for."""
    task = {
        "type": TaskType.IMPLEMENT_TICKET.value,
        "issue_key": "DEMO-1",
        "prompt": "Fix the failing test of average().",
        "repo_url": repo_url,
        "base_branch": "main",
        "branch": BRANCH,
    }
    request: dict[str, Any] = {"task": task, "capabilities": ["git", "filesystem"], "timeout_s": 600, "max_turns": 30}
    return {**request, "anthropic_api_key": anthropic_api_key} if anthropic_api_key else request


class JobApi:
    """A client of ``/api/v1``."""

    def __init__(self, access: Access) -> None:
        # Neither a proxy nor .netrc of the caller's: this is loopback.
        self._client = httpx.Client(
            base_url=f"{access.url}/api/v1",
            headers={"Authorization": f"Bearer {access.api_key}"},
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    def __enter__(self) -> JobApi:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def submit(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/jobs", json=request)

    def read(self, job_id: str) -> dict[str, Any]:
        return self._call("GET", f"/jobs/{job_id}")

    def wait_started(self, job_id: str, on_waiting: Callable[[str], None]) -> dict[str, Any]:
        """Wait until the job is not queued any more.

        Args:
            on_waiting: told why it waits, each time the reason changes.

        Raises:
            DemoFailed: it still waits after a minute.
        """
        deadline, told = time.monotonic() + START_TIMEOUT_S, ""
        while (job := self.read(job_id))["status"] == JobStatus.QUEUED:
            waiting = job["waiting"]
            if time.monotonic() > deadline:
                raise DemoFailed(f"The job did not start within {START_TIMEOUT_S} s: {waiting['reason']}")
            if waiting["code"] not in _PASSING and waiting["reason"] != told:
                told = waiting["reason"]
                on_waiting(told)
            time.sleep(_POLL_S)
        return job

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        return follow(self._client, f"/jobs/{job_id}/stream")

    def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, **body)
        except httpx.TransportError as error:
            raise DemoFailed(f"{method} {path} got no answer: {error}") from error
        if answer.is_error:
            raise DemoFailed(f"{method} {path} was refused: {_reason(answer)}")
        found: dict[str, Any] = answer.json()
        return found


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
