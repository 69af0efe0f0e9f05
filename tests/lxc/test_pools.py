"""An ephemeral pool of real containers: no job finds what another one left, and none waits while that is seen to."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from .conftest import FOLDER
from .inside import inside, output
from .operating import Operator, make_pool, rules, until
from .world import World, running_world

POOL = "fresh"
# What somebody who has become root inside would leave: for the next job to read, to run, and to be run by.
LEFT = ("/etc/left", "/root/left", "/var/lib/left", "/opt/claude-shard/left.py", "/etc/systemd/system/left.service")
# A recycle takes a second or two, where several engineers do not share two cores.
SOON_S = 10


@dataclass
class Played:
    """Two jobs, one after the other, and what was seen of the first one's container.

    Attributes:
        config: what a shard knew while the first job ran.
        hashes, hashes_after: of that shard's key and broker password.
        left_during: of ``LEFT``, what was there while the job ran.
        key_answer: to a wrong call with the key, while it was good.
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
    with tempfile.TemporaryDirectory(prefix="myctobot-pools-", dir=FOLDER, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with running_world(folder, bridge="mctbp0", net="10.222.0.0/24", first_id=180_000_000) as made:
            yield made


@pytest.fixture(scope="module")
def operator(world: World) -> Iterator[Operator]:
    make_pool(world, POOL, "ephemeral", rules(least=1, most=3, spares=1))
    with Operator(world.stack) as logged_in:
        yield logged_in


@pytest.fixture(scope="module")
def played(world: World, operator: Operator) -> Played:
    until(lambda: ready(operator), "the pool's first shard")
    job_id = world.client.submit({"prompt": "RUN: sleep 30"})
    world.client.wait_event(job_id, "tool.call")
    used = world.client.job(job_id)["attempts"][0]["shard"]
    ref = operator.shard(used)["provider_ref"]
    for path in LEFT:
        output(world.maker, ref, "touch", path)
    config = json.loads(output(world.maker, ref, "cat", "/etc/claude-shard/config.json"))
    during, hashes = left_in(world, ref), hashes_of(world, used)
    key_answer = answer_to(world, config["shard_key"])
    spare = until(lambda: next((one for one in ready(operator) if one["is_spare"]), None), "a warm spare")
    first = world.client.wait_end(job_id)
    second = world.client.run({"prompt": "THINK AND TALK"})
    until(lambda: recycled(operator, used), f"{used} to be made anew")
    return Played(
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
    program = f"from shards.models.shard import Shard; s = Shard.objects.get(name={name!r})"
    shown = f"{program}; print(s.key_hash, s.broker_password_hash)"
    return world.manage("shell", "--no-imports", "-c", shown).stdout.split()[-2:]


def answer_to(world: World, key: str) -> int:
    """What the control plane answers to a heartbeat that says nothing: whether it knows the key comes first."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{world.stack.web_url}/shard/v1/heartbeat", headers=headers, json={}, timeout=10).status_code


def after(later: str, earlier: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def used_shard(played: Played) -> str:
    return str(played.first["attempts"][0]["shard"])


def test_both_jobs_ran_at_the_first_try(played: Played) -> None:
    assert [(job["status"], len(job["attempts"])) for job in (played.first, played.second)] == [("completed", 1)] * 2


def test_the_spare_takes_over_within_seconds(played: Played) -> None:
    assert played.second["attempts"][0]["shard"] == played.spare
    assert played.spare != used_shard(played)
    assert played.second_claimed_after_s < SOON_S


def test_what_root_left_is_gone(world: World, operator: Operator, played: Played) -> None:
    assert played.left_during == list(LEFT)
    assert left_in(world, operator.shard(used_shard(played))["provider_ref"]) == []


def test_the_key_of_the_used_container_opens_nothing_any_more(world: World, played: Played) -> None:
    assert played.hashes[0] != played.hashes_after[0]
    assert played.key_answer == 400
    assert answer_to(world, played.config["shard_key"]) == 401


def test_the_broker_password_of_the_used_container_opens_nothing_any_more(played: Played) -> None:
    assert played.hashes[1] != played.hashes_after[1]
    with (
        redis.Redis.from_url(played.config["broker_url"], socket_timeout=5) as stolen,
        pytest.raises(redis.AuthenticationError),
    ):
        stolen.ping()


def test_no_container_has_two_jobs(world: World, operator: Operator, played: Played) -> None:
    jobs = [played.first, played.second, *(world.client.run({"prompt": "THINK AND TALK"}) for _ in range(3))]
    assert {job["status"] for job in jobs} == {"completed"}
    # Five jobs in three shards at most: at least two of them used a shard one after the other.
    attempts = sorted((one for job in jobs for one in job["attempts"]), key=lambda one: one["claimed_at"])
    for name in {one["shard"] for one in attempts}:
        made_anew = [one["ended_at"] for one in operator.operations(name, "recycle") if one["state"] == "done"]
        for before, later in pairwise([one for one in attempts if one["shard"] == name]):
            between = [at for at in made_anew if before["ended_at"] < at < later["claimed_at"]]
            assert between, (name, before, later, made_anew)
