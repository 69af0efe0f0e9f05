"""An ephemeral pool of real containers: no job finds what another one left, and none waits while that is seen to."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
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
    """

    first: dict[str, Any]
    second: dict[str, Any]
    config: dict[str, Any] = field(repr=False)
    hashes: list[str]
    hashes_after: list[str]
    left_during: list[str]
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
        spare=spare["name"],
        second_claimed_after_s=after(second["attempts"][0]["claimed_at"], second["created_at"]),
    )
