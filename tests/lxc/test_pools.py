"""Ephemeral pool of real containers: no job sees the files of another, and no job waits for the cleanup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import httpx
import pytest
import redis

from .inside import UNTIL_RELEASED, inside, output, release_jobs
from .operating import Operator, make_pool, rules, until
from .world import World, own_folder, running_world

POOL = "fresh"
# An attacker with root access would leave such files for the next job to read or to execute.
LEFT = ("/etc/left", "/root/left", "/var/lib/left", "/opt/claude-shard/left.py", "/etc/systemd/system/left.service")
# A recycle takes a second or two, but a busy machine needs longer.
SOON_S = 10


@dataclass
class PoolRun:
    """Two consecutive jobs, and observations of the first job's container.

    Attributes:
        config: configuration of the shard while the first job ran.
        hashes, hashes_after: hashes of the shard's key and broker password during and after the job.
        left_during: files of ``LEFT`` that existed while the job ran.
        key_answer: status of an invalid call with the key while the key was valid.
        spare: name of the warm spare.
        second_claimed_after_s: seconds between creation and claim of the second job.
    """

    first: dict[str, Any]
    second: dict[str, Any]
    config: dict[str, Any] = field(repr=False)
    hashes: list[str]
    hashes_after: list[str]
    left_during: list[str]
    key_answer: int
    spare: str
    second_claimed_after_s: float


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    settings: dict[str, Any] = {"bridge": "mctbp0", "net": "10.222.0.0/24", "first_id": 180_000_000}
    with own_folder("pools") as folder, running_world(folder, **settings) as made:
        yield made


@pytest.fixture(scope="module")
def operator(world: World) -> Iterator[Operator]:
    make_pool(world, POOL, "ephemeral", rules(minimum=1, maximum=3, spares=1))
    with Operator(world.stack) as logged_in:
        yield logged_in


@pytest.fixture(scope="module")
def pool_run(world: World, operator: Operator) -> PoolRun:
    until(lambda: ready(operator), "the pool's first shard")
    job_id = world.client.submit({"prompt": f"RUN: {UNTIL_RELEASED}"})
    world.client.wait_event(job_id, "tool.call")
    used = world.client.job(job_id)["attempts"][0]["shard"]
    ref = operator.shard(used)["provider_ref"]
    for path in LEFT:
        output(world.maker, ref, "touch", path)
    config = json.loads(output(world.maker, ref, "cat", "/etc/claude-shard/config.json"))
    during, hashes = left_in(world, ref), hashes_of(world, used)
    key_answer = answer_to(world, config["shard_key"])
    spare = until(lambda: next((one for one in ready(operator) if one["is_spare"]), None), "a warm spare")
    release_jobs(world.maker, ref)
    first = world.client.wait_end(job_id)
    second = world.client.run({"prompt": "THINK AND TALK"})
    until(lambda: recycled(operator, used), f"{used} to be recycled")
    return PoolRun(
        first=first,
        second=second,
        config=config,
        hashes=hashes,
        hashes_after=hashes_of(world, used),
        left_during=during,
        key_answer=key_answer,
        spare=spare["name"],
        second_claimed_after_s=after(second["attempts"][0]["claimed_at"], second["created_at"]),
    )


def ready(operator: Operator) -> list[dict[str, Any]]:
    return [shard for shard in operator.shards_of(POOL) if shard["state"] == "ready"]


def recycled(operator: Operator, name: str) -> bool:
    done = [one for one in operator.operations(name, "recycle") if one["state"] == "done"]
    return bool(done) and operator.shard(name)["state"] == "ready"


def left_in(world: World, ref: str) -> list[str]:
    return [path for path in LEFT if inside(world.maker, ref, "test", "-e", path).returncode == 0]


def hashes_of(world: World, name: str) -> list[str]:
    program = f"from shards.models import Shard; s = Shard.objects.get(name={name!r})"
    shown = f"{program}; print(s.key_hash, s.broker_password_hash)"
    return world.manage("shell", "--no-imports", "-c", shown).stdout.split()[-2:]


def answer_to(world: World, key: str) -> int:
    """Return the status of an empty heartbeat: the control plane checks the key before the body."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{world.stack.web_url}/shard/v1/heartbeat", headers=headers, json={}, timeout=10).status_code


def after(later: str, earlier: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def used_shard(pool_run: PoolRun) -> str:
    return str(pool_run.first["attempts"][0]["shard"])


def test_both_jobs_completed_in_their_first_attempt(pool_run: PoolRun) -> None:
    assert [(job["status"], len(job["attempts"])) for job in (pool_run.first, pool_run.second)] == [
        ("completed", 1)
    ] * 2


def test_the_spare_takes_over_within_seconds(pool_run: PoolRun) -> None:
    assert pool_run.second["attempts"][0]["shard"] == pool_run.spare
    assert pool_run.spare != used_shard(pool_run)
    assert pool_run.second_claimed_after_s < SOON_S


def test_files_that_root_left_are_gone(world: World, operator: Operator, pool_run: PoolRun) -> None:
    assert pool_run.left_during == list(LEFT)
    assert left_in(world, operator.shard(used_shard(pool_run))["provider_ref"]) == []


def test_the_key_of_the_used_container_is_refused(world: World, pool_run: PoolRun) -> None:
    assert pool_run.hashes[0] != pool_run.hashes_after[0]
    assert pool_run.key_answer == 400
    assert answer_to(world, pool_run.config["shard_key"]) == 401


def test_the_broker_password_of_the_used_container_is_refused(pool_run: PoolRun) -> None:
    assert pool_run.hashes[1] != pool_run.hashes_after[1]
    with (
        redis.Redis.from_url(pool_run.config["broker_url"], socket_timeout=5) as stolen,
        pytest.raises(redis.AuthenticationError),
    ):
        stolen.ping()


def test_every_container_runs_one_job(world: World, operator: Operator, pool_run: PoolRun) -> None:
    jobs = [pool_run.first, pool_run.second, *(world.client.run({"prompt": "THINK AND TALK"}) for _ in range(3))]
    assert {job["status"] for job in jobs} == {"completed"}
    # A used shard may refuse an attempt, which then never ran. Five jobs and three shards: two jobs share a shard.
    ran = [one for job in jobs for one in job["attempts"] if one["claimed_at"]]
    attempts = sorted(ran, key=lambda one: one["claimed_at"])
    for name in {one["shard"] for one in attempts}:
        recycled_at = [one["ended_at"] for one in operator.operations(name, "recycle") if one["state"] == "done"]
        for before, later in pairwise([one for one in attempts if one["shard"] == name]):
            between = [at for at in recycled_at if before["ended_at"] < at < later["claimed_at"]]
            assert between, (name, before, later, recycled_at)
