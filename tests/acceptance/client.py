"""Client of the REST API of a running stack, for tests."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from myctobot.contract.jobs import TERMINAL
from tests.stacks import RunningStack

WAIT_S = 90


class Client:
    """Client that calls the API with the key of the stack."""

    def __init__(self, stack: RunningStack) -> None:
        self.stack = stack
        self.http = httpx.Client(
            base_url=f"{stack.web_url}/api/v1",
            headers={"Authorization": f"Bearer {stack.api_key}"},
            timeout=15,
            trust_env=False,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def submit(self, task: dict[str, Any], **more: Any) -> str:
        """Start a job and return its id.

        The MCP server of the git capability takes most of a second of a core to start, and few tests use it.
        """
        body = {"task": {"type": "prompt", **task}, "capabilities": ["filesystem"], **more}
        answer = self.http.post("/jobs", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def cancel(self, job_id: str) -> httpx.Response:
        return self.http.post(f"/jobs/{job_id}/cancel")

    def events(self, job_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            page = self.http.get(f"/jobs/{job_id}/events", params={"after": after, "limit": 1000}).json()
            found.extend(page["events"])
            if not page["more"]:
                return found

    def wait(self, job_id: str, until: Callable[[dict[str, Any]], bool], timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Poll the job until the condition holds, and return it."""
        deadline = time.monotonic() + timeout_s
        while True:
            job = self.job(job_id)
            if until(job):
                return job
            if time.monotonic() > deadline:
                tail = "\n".join(self.stack.output().splitlines()[-30:])
                raise AssertionError(f"waited {timeout_s} s for {job}\n{tail}")
            time.sleep(0.1)

    def wait_end(self, job_id: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        return self.wait(job_id, lambda job: job["status"] in TERMINAL, timeout_s)

    def wait_event(self, job_id: str, kind: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Wait for the first event of a kind, and fail when the job ends without one."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            job, events = self.job(job_id), self.events(job_id)
            if found := [event for event in events if event["kind"] == kind]:
                return found[0]
            assert job["status"] not in TERMINAL, job
            time.sleep(0.1)
        raise AssertionError(f"no {kind} within {timeout_s} s")

    def run(self, task: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Start a job and wait for its end."""
        return self.wait_end(self.submit(task, **more))


def texts(events: list[dict[str, Any]]) -> str:
    """Return the data of all events as one text."""
    return "\n".join(str(event["data"]) for event in events)


def file_url(path: Path) -> str:
    """Return the URL of a repository on this machine. The stack needs a folder above it in ``REPO_FILE_ROOTS``."""
    return f"file://{path}"


def kill_worker(client: Client) -> None:
    """Kill the Celery worker of the shard and wait for its replacement, which reads the configuration again."""
    old = client.stack.pid_of("shard-local")
    os.kill(old, signal.SIGKILL)
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        # The record is absent until the replacement starts.
        with suppress(FileNotFoundError):
            if client.stack.pid_of("shard-local") != old:
                return
        time.sleep(0.1)
    raise AssertionError("the worker was not started again")


@contextmanager
def shard_config(client: Client, **changes: Any) -> Iterator[None]:
    """Change top-level keys of the shard's config.json for the duration of the block; merge sections."""
    path = client.stack.shards["local"]
    text = path.read_text()
    config = json.loads(text)
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(config))
    kill_worker(client)
    try:
        yield
    finally:
        path.write_text(text)
        kill_worker(client)
