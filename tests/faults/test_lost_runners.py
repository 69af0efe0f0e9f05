"""Runners that the control plane hears nothing of: killed alone, with their whole shard, or stopped and continued."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.client import Client
from tests.faults.effects import IS_LONG, World, reckon, submit_piece, world
from tests.faults.injection import kill_runner, kill_shard, runner_of, stopped

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

# What is lost is missed after 90 s, by design; three losses at once take as long as one.
WORK_S = 8
STOPPED_S = 300 if IS_LONG else 0
_LONG_S = 240


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("lost"), "--shards", "2") as made:
        yield made


def test_each_is_fenced_and_its_job_runs_once_more(place: World) -> None:
    client = place.client
    pieces = [submit_piece(place, f"lost-{n}", WORK_S) for n in range(4)]
    for piece in pieces:
        client.wait_event(piece.job_id, "tool.call")
    where = {piece: runner_of(client, piece.job_id) for piece in pieces}
    here = [piece for piece in pieces if where[piece][0] == "local"]
    there = [piece for piece in pieces if where[piece][0] == "local-2"]
    # Two slots each, so both shards are full.
    assert (len(here), len(there)) == (2, 2)
    frozen, alone = here
    pid = where[frozen][1].pid
    began = time.monotonic()
    with stopped(pid):
        kill_runner(client, alone.job_id)
        kill_shard(client, "local-2")
        # Its job runs elsewhere before it goes on.
        client.wait(frozen.job_id, lambda job: len(job["attempts"]) == 2, _LONG_S)
        time.sleep(max(0.0, STOPPED_S - (time.monotonic() - began)))
    # What goes on is fenced, and stops by itself.
    deadline = time.monotonic() + 60
    while _is_alive(client, pid, frozen.job_id):
        assert time.monotonic() < deadline, "the runner that was stopped goes on"
        time.sleep(0.2)
    for piece in pieces:
        first, *others = reckon(place, piece)["attempts"]
        assert (first["state"], first["error_code"]) == ("lost", "lost"), piece
        assert len(others) == 1, others


def _is_alive(client: Client, pid: int, job_id: str) -> bool:
    """Whether that process still is the first attempt's runner."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (client.stack.home / "shards" / "local" / "run" / f"{job_id}.1.json").exists()
