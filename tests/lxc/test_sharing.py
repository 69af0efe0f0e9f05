"""Three shards of two classes that share the work, and the loss of one of them in the middle of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.fixtures.repos import branches

from .conftest import shards_in
from .world import World

GENERAL, OTHER = ("first", "second"), "third"
# The shard is silent for 90 s; a pause before the next attempt and the job itself follow.
LOST_AND_DONE_S = 240


@pytest.fixture(scope="module")
def world(general: World) -> Iterator[World]:
    other = ("--capability", "filesystem", "--capability", "git", "--capability", "sqlite")
    with shards_in(general, *GENERAL, OTHER, more={OTHER: other}) as made:
        yield made


def shard_of(world: World, job_id: str) -> str | None:
    attempts = world.client.job(job_id)["attempts"]
    return str(attempts[-1]["shard"]) if attempts and attempts[-1]["shard"] else None


def test_two_classes_share_the_work(world: World) -> None:
    any_shard = [world.client.submit({"prompt": "RUN: sleep 2"}) for _ in range(4)]
    sqlite = [world.client.submit({"prompt": "RUN: sleep 1"}, capabilities=["git", "sqlite"]) for _ in range(2)]
    done = [world.client.wait_end(job) for job in [*any_shard, *sqlite]]
    assert [job["status"] for job in done] == ["completed"] * 6
    assert {shard_of(world, job) for job in sqlite} == {OTHER}
    # The class with the fewest unused capabilities comes first, and both of its shards had work.
    assert {shard_of(world, job) for job in any_shard} >= set(GENERAL)


def test_a_job_of_a_killed_container_completes_on_another(world: World) -> None:
    path, url = world.remote("killed.git")
    task = {"repo_url": url, "branch": "survivor", "prompt": "RUN: sleep 6 && echo done > done.txt"}
    job_id = world.client.submit(task)
    world.client.wait(job_id, lambda job: job["phase"] == "agent")
    victim = shard_of(world, job_id)
    assert victim is not None
    began = time.monotonic()
    world.kill(world.shard(victim)["ref"])
    job = world.client.wait_end(job_id, LOST_AND_DONE_S)
    assert job["status"] == "completed", job
    assert [attempt["state"] for attempt in job["attempts"]] == ["lost", "ended"]
    assert shard_of(world, job_id) != victim
    assert "survivor" in branches(path)
    # The second attempt must wait for the end of the lease, because the first runner could act until then.
    assert time.monotonic() - began > 60
    assert world.shard(victim)["state"] in ("suspect", "lost")


def test_a_killed_shard_is_ready_after_a_start(world: World) -> None:
    victim = next(name for name in (*GENERAL, OTHER) if world.shard(name)["state"] != "ready")
    world.operate("start", victim)
    assert world.shard(victim)["state"] == "ready"
