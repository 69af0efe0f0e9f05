"""Check that a job ended once and has its effects once, after any fault."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from standardwebhooks import Webhook

from myctobot.contract.jobs import TERMINAL
from tests.acceptance.client import Client
from tests.fixtures.endpoint import Endpoint, endpoint
from tests.fixtures.git_server import GitServer, serve
from tests.fixtures.repos import git, make_remote
from tests.stacks import SCRIPTS, running_stack

TOKEN = "ghp_token-of-the-fault-tests-0123456789"
# The scripted model sends one text before a command and one after it.
TURNS = 2
_CALLBACKS_S = 40


@dataclass(frozen=True)
class World:
    """Stack under test, a repository to push to over HTTPS, and an endpoint that receives callbacks."""

    client: Client
    remote: Path
    git: GitServer
    hook: Endpoint


@dataclass(frozen=True)
class PushJob:
    """Job that pushes one commit to a branch of its own, and sends a callback for its start and its end."""

    job_id: str
    branch: str


@contextmanager
def world(folder: Path, *options: str, home: Path | None = None, **environ: str) -> Iterator[World]:
    """Start a stack whose callbacks go to an endpoint on this machine.

    Args:
        home: of the stack, next to its output; by default in ``folder``.
        options: options of ``manage.py up``.
        environ: environment variables of the stack.
    """
    repos, certificates = folder / "repos", folder / "certificates"
    for directory in (repos, certificates):
        directory.mkdir()
    remote = make_remote(repos / "remote.git")
    with endpoint(folder) as hook, serve(repos, certificates, token=TOKEN) as server:
        settings = {
            "GATEWAY_SCRIPTS": str(SCRIPTS),
            "LOCAL_SHARD_SLOTS": "2",
            "CALLBACK_PRIVATE_HOSTS": "localhost",
            "CALLBACK_CA_FILE": str(hook.certificate),
            "REPO_PRIVATE_HOSTS": "localhost",
            "LOCAL_SHARD_GIT_CA_FILE": str(server.ca_file),
            **environ,
        }
        with running_stack(home or folder / "home", *options, environ=settings) as stack, Client(stack) as client:
            yield World(client, remote, server, hook)


def submit_push_job(place: World, branch: str, seconds: int, **more: Any) -> PushJob:
    """Submit a job whose agent works for some seconds and then writes a file.

    The request is repeated while the control plane is down, with the same idempotency key, so that one job results.
    """
    prompt = f"RUN: sleep {seconds}; echo {branch} > done.txt"
    repository = {"repo_url": place.git.url(place.remote.name), "repo_token": TOKEN, "branch": branch}
    task = {"type": "prompt", "prompt": prompt, **repository}
    body = {"task": task, "capabilities": ["filesystem"], "callback_url": place.hook.url, **more}
    deadline, response = time.monotonic() + 60, ""
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            answer = place.client.http.post("/jobs", json=body, headers={"Idempotency-Key": branch})
            response = answer.text
            assert answer.status_code in (200, 201) or answer.status_code >= 500, response
            if answer.is_success:
                return PushJob(answer.json()["id"], branch)
        time.sleep(0.2)
    raise AssertionError(f"no job was created within a minute: {response}")


def wait_end(client: Client, job_id: str, timeout_s: float) -> dict[str, Any]:
    """Wait for a job's end, even while the control plane is down."""
    deadline = time.monotonic() + timeout_s
    response: object = None
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            answer = client.http.get(f"/jobs/{job_id}")
            response = answer.text
            if answer.status_code == 200 and answer.json()["status"] in TERMINAL:
                return dict(answer.json())
        time.sleep(0.2)
    raise AssertionError(f"{job_id} has not ended after {timeout_s} s: {response}")


def check_effects(place: World, push: PushJob, timeout_s: float = 240) -> dict[str, Any]:
    """Wait for the end of a job, and check that its effects exist once.

    The job has one completed attempt, one commit on its branch, events 1..n and one callback of each type. A job with
    one claimed attempt has the usage of one agent.

    Returns:
        The job.
    """
    job = wait_end(place.client, push.job_id, timeout_s)
    assert job["status"] == "completed", job
    outcomes = [attempt["outcome"] for attempt in job["attempts"]]
    assert (outcomes.count("completed"), outcomes[-1]) == (1, "completed"), job["attempts"]
    assert {attempt["state"] for attempt in job["attempts"]} <= {"ended", "lost", "withdrawn"}, job["attempts"]
    ran = [attempt for attempt in job["attempts"] if attempt["claimed_at"]]
    assert job["usage"]["turns"] == TURNS if len(ran) == 1 else job["usage"]["turns"] >= TURNS, job
    commits = git(place.remote, "rev-list", f"main..{push.branch}").split()
    assert len(commits) == 1, (push, commits)
    sequence = [event["seq"] for event in place.client.events(push.job_id)]
    assert sequence == list(range(1, len(sequence) + 1)), push
    assert count_callbacks(place, push) == {"job.started": 1, "job.completed": 1}, push
    return job


def _signature(secret: str, headers: Mapping[str, str], text: str) -> str:
    """Return the expected signature of a callback; ``verify`` would refuse callbacks older than five minutes."""
    sent = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    return Webhook(secret).sign(headers["webhook-id"], sent, text)


def count_callbacks(place: World, push: PushJob) -> dict[str, int]:
    """Return the number of callbacks by type, without repetitions, which have the same id."""
    secret = place.client.http.get("/callback-secret").json()["secret"]
    deadline = time.monotonic() + _CALLBACKS_S
    while True:
        ids: dict[str, set[str]] = {}
        for headers, text in list(place.hook.received):
            body = json.loads(text)
            if body["data"]["id"] == push.job_id:
                assert _signature(secret, headers, text) in headers["webhook-signature"].split(), body
                ids.setdefault(body["type"], set()).add(headers["webhook-id"])
        if len(ids) > 1 or time.monotonic() > deadline:
            return {kind: len(found) for kind, found in ids.items()}
        time.sleep(0.2)
