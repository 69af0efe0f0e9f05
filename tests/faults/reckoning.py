"""What must be true of a job however it was disturbed: it ended once, and its effects are there once."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from jobs.contract import TERMINAL
from tests.acceptance.client import Client, file_url
from tests.fixtures.repos import git


@dataclass(frozen=True)
class Piece:
    """A job that pushes one commit to a branch of its own."""

    job_id: str
    branch: str


def submit_piece(client: Client, remote: Path, branch: str, seconds: int) -> Piece:
    """Start a job whose agent works for some seconds and then writes a file."""
    task = {"repo_url": file_url(remote), "branch": branch, "prompt": f"RUN: sleep {seconds}; echo {branch} > done.txt"}
    return Piece(client.submit(task), branch)


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


def reckon(client: Client, remote: Path, piece: Piece, timeout_s: float = 240) -> dict[str, Any]:
    """Wait for the end; one ended attempt with usage, one commit on the branch, events 1..n. Returns the job."""
    job = wait_end(client, piece.job_id, timeout_s)
    assert job["status"] == "completed", job
    states = [attempt["state"] for attempt in job["attempts"]]
    assert (states.count("ended"), states[-1]) == (1, "ended"), states
    assert set(states) <= {"ended", "lost", "withdrawn"}, states
    assert job["usage"], job
    commits = git(remote, "rev-list", f"main..{piece.branch}").split()
    assert len(commits) == 1, (piece, commits)
    sequence = [event["seq"] for event in client.events(piece.job_id)]
    assert sequence == list(range(1, len(sequence) + 1)), piece
    return job
