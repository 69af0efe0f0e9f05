"""What must be true of a job however it was disturbed: it ended once, and its effects are there once."""

from __future__ import annotations

import json
import os
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
from tests.stacks import PLAYS, running_stack

# ``FAULTS=long`` makes outages as long as they are in the worst of nights; else they are as long as they must be.
IS_LONG = os.environ.get("FAULTS") == "long"
_TOKEN = "ghp_token-of-the-fault-tests-0123456789"
# The scripted model answers a command with a text before it and one after it.
TURNS = 2
_HEARD_S = 40


@dataclass(frozen=True)
class World:
    """A stack that is about to be disturbed, a repository to push to over HTTPS, and an endpoint that is told."""

    client: Client
    remote: Path
    git: GitServer
    hook: Endpoint


@dataclass(frozen=True)
class Piece:
    """A job that pushes one commit to a branch of its own, and tells of its start and its end."""

    job_id: str
    branch: str


@contextmanager
def world(folder: Path, *options: str, **environ: str) -> Iterator[World]:
    """Start a stack whose callbacks go to an endpoint of this machine.

    Args:
        options: of ``manage.py up``.
        environ: of the stack.
    """
    repos, certificates = folder / "repos", folder / "certificates"
    for directory in (repos, certificates):
        directory.mkdir()
    remote = make_remote(repos / "remote.git")
    with endpoint(folder) as hook, serve(repos, certificates, token=_TOKEN) as server:
        settings = {
            "GATEWAY_PLAYS": str(PLAYS),
            "LOCAL_SHARD_SLOTS": "2",
            "CALLBACK_PRIVATE_HOSTS": "localhost",
            "CALLBACK_CA_FILE": str(hook.certificate),
            "REPO_PRIVATE_HOSTS": "localhost",
            "LOCAL_SHARD_GIT_CA_FILE": str(server.ca_file),
            **environ,
        }
        with running_stack(folder / "home", *options, environ=settings) as stack, Client(stack) as client:
            yield World(client, remote, server, hook)


def submit_piece(place: World, branch: str, seconds: int, **more: Any) -> Piece:
    """Start a job whose agent works for some seconds and then writes a file.

    While the control plane comes and goes it is asked again: with the same key, so that there is one job.
    """
    prompt = f"RUN: sleep {seconds}; echo {branch} > done.txt"
    repository = {"repo_url": place.git.url(place.remote.name), "repo_token": _TOKEN, "branch": branch}
    task = {"type": "prompt", "prompt": prompt, **repository}
    body = {"task": task, "capabilities": ["git", "filesystem"], "callback_url": place.hook.url, **more}
    deadline, told = time.monotonic() + 60, ""
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            answer = place.client.http.post("/jobs", json=body, headers={"Idempotency-Key": branch})
            told = answer.text
            assert answer.status_code in (200, 201) or answer.status_code >= 500, told
            if answer.is_success:
                return Piece(answer.json()["id"], branch)
        time.sleep(0.2)
    raise AssertionError(f"no job was made within a minute: {told}")


def wait_end(client: Client, job_id: str, timeout_s: float) -> dict[str, Any]:
    """Wait for a job's end while the control plane comes and goes."""
    deadline = time.monotonic() + timeout_s
    told: object = None
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            answer = client.http.get(f"/jobs/{job_id}")
            told = answer.text
            if answer.status_code == 200 and answer.json()["status"] in TERMINAL:
                return dict(answer.json())
        time.sleep(0.2)
    raise AssertionError(f"{job_id} has not ended after {timeout_s} s: {told}")


def reckon(place: World, piece: Piece, timeout_s: float = 240) -> dict[str, Any]:
    """Wait for the end, and count what is there of it.

    One attempt that completed; one commit on the branch; events 1..n; one callback of a kind; and of a job with one
    attempt the usage of one agent.

    Returns:
        The job.
    """
    job = wait_end(place.client, piece.job_id, timeout_s)
    assert job["status"] == "completed", job
    outcomes = [attempt["outcome"] for attempt in job["attempts"]]
    assert (outcomes.count("completed"), outcomes[-1]) == (1, "completed"), job["attempts"]
    assert {attempt["state"] for attempt in job["attempts"]} <= {"ended", "lost", "withdrawn"}, job["attempts"]
    ran = [attempt for attempt in job["attempts"] if attempt["claimed_at"]]
    assert job["usage"]["turns"] == TURNS if len(ran) == 1 else job["usage"]["turns"] >= TURNS, job
    commits = git(place.remote, "rev-list", f"main..{piece.branch}").split()
    assert len(commits) == 1, (piece, commits)
    sequence = [event["seq"] for event in place.client.events(piece.job_id)]
    assert sequence == list(range(1, len(sequence) + 1)), piece
    assert told_of(place, piece) == {"job.started": 1, "job.completed": 1}, piece
    return job


def _signature(secret: str, headers: Mapping[str, str], text: str) -> str:
    """What a callback must be signed with. ``verify`` would also want it to have come within five minutes."""
    sent = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    return Webhook(secret).sign(headers["webhook-id"], sent, text)


def told_of(place: World, piece: Piece) -> dict[str, int]:
    """How many callbacks of a kind there were, once the last is there; one that came twice has the same id."""
    secret = place.client.http.get("/callback-secret").json()["secret"]
    deadline = time.monotonic() + _HEARD_S
    while True:
        ids: dict[str, set[str]] = {}
        for headers, text in list(place.hook.received):
            body = json.loads(text)
            if body["data"]["id"] == piece.job_id:
                assert _signature(secret, headers, text) in headers["webhook-signature"].split(), body
                ids.setdefault(body["type"], set()).add(headers["webhook-id"])
        if len(ids) > 1 or time.monotonic() > deadline:
            return {kind: len(found) for kind, found in ids.items()}
        time.sleep(0.2)
