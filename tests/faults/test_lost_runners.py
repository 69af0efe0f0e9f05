"""Silent runners: killed alone, killed with their whole shard, or stopped and continued."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.client import Client
from tests.faults.effects import World, check_effects, submit_push_job, world
from tests.faults.injection import kill_runner, kill_shard, runner_of, stopped

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

# The control plane declares a silent runner lost after 90 s. The worker reports those that it finds dead at once.
WORK_S = 8
_LONG_S = 240
_REPORTED_S = 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("lost"), "--shards", "2") as made:
        yield made


@pytest.mark.long
@pytest.mark.parametrize("stopped_s", [0, 300])
def test_lost_runners_are_fenced_and_their_jobs_run_once_more(place: World, stopped_s: int) -> None:
    client = place.client
    pushes = [submit_push_job(place, f"lost-{stopped_s}-{n}", WORK_S) for n in range(4)]
    for push in pushes:
        client.wait_event(push.job_id, "tool.call")
    where = {push: runner_of(client, push.job_id) for push in pushes}
    here = [push for push in pushes if where[push][0] == "local"]
    there = [push for push in pushes if where[push][0] == "local-2"]
    # Each shard has two slots, so both shards are full.
    assert (len(here), len(there)) == (2, 2)
    frozen, alone = here
    pid = where[frozen][1].pid
    began = time.monotonic()
    with stopped(pid):
        kill_runner(client, alone.job_id)
        kill_shard(client, "local-2")
        for push in (alone, *there):
            client.wait(push.job_id, lambda job: job["attempts"][0]["state"] == "lost", _REPORTED_S)
        # The job runs on the other shard before the stopped runner continues.
        client.wait(frozen.job_id, lambda job: len(job["attempts"]) == 2, _LONG_S)
        time.sleep(max(0.0, stopped_s - (time.monotonic() - began)))
    # The continued runner is fenced and ends itself.
    deadline = time.monotonic() + 60
    while _is_alive(client, pid, frozen.job_id):
        assert time.monotonic() < deadline, "the stopped runner still runs after it continued"
        time.sleep(0.2)
    for push in pushes:
        first, *others = check_effects(place, push)["attempts"]
        assert (first["state"], first["error_code"]) == ("lost", "lost"), push
        assert len(others) == 1, others


def _is_alive(client: Client, pid: int, job_id: str) -> bool:
    """Return True if the process is still the runner of the first attempt."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (client.stack.home / "shards" / "local" / "run" / f"{job_id}.1.json").exists()
