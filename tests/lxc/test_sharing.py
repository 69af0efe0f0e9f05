"""Three shards of two classes in three containers share the work; one of them is killed in the middle of a job."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.repos import branches

from .conftest import FOLDER
from .world import World, running_world

GENERAL, OTHER = ("one", "two"), "three"
# Silent for 90 s, then a pause before another try, then the job itself.
LOST_AND_DONE_S = 240


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="myctobot-sharing-", dir=FOLDER, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with running_world(folder, bridge="mctbs0", net="10.218.0.0/24", first_id=80_000_000) as made:
            for shard in GENERAL:
                made.operate("add", shard, "--template", "general", "--provider", "lxc", "--provision")
            made.operate(
                *("add", OTHER, "--template", "general", "--provider", "lxc", "--provision"),
                *("--capability", "filesystem", "--capability", "git", "--capability", "sqlite"),
            )
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
    # The least over-qualified class comes first; both of its shards had work.
    assert {shard_of(world, job) for job in any_shard} >= set(GENERAL)


def test_a_job_whose_container_is_killed_ends_on_another(world: World) -> None:
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
    # Not before its lease had run out: until then its runner could have acted.
    assert time.monotonic() - began > 60
    assert world.shard(victim)["state"] in ("suspect", "lost")


def test_the_killed_shard_comes_back_when_it_is_started(world: World) -> None:
    victim = next(name for name in (*GENERAL, OTHER) if world.shard(name)["state"] != "ready")
    world.operate("start", victim)
    assert world.shard(victim)["state"] == "ready"
