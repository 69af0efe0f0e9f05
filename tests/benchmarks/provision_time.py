"""Time from the request for a shard until it takes jobs, for a new real container and for a warm spare."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from shards.providers.lxc.layers import shown
from tests.benchmarks.bare_lxc import BareLxc, BareStart, bare_lxc
from tests.benchmarks.container_memory import memory_at_rest
from tests.benchmarks.result import CannotMeasure, Check, Result, percentile, spread
from tests.lxc.operating import Operator, make_pool, rules, until
from tests.lxc.templates import TEMPLATES
from tests.lxc.world import World, running_world

TARGET_S: Final = 15.0
SPARE_TARGET_S: Final = 1.0
_SHARDS: Final = 10
# No other test or benchmark uses these.
_BRIDGE, _NETWORK, _FIRST_ID = "mctbb0", "10.221.0.0/24", 160_000_000
# The users of containers must be able to traverse the folder, which not every temporary folder permits.
_FOLDER: Final = "/var/tmp"
_PROGRAMS: Final = {"lxc-start": "lxc", "lxc-copy": "lxc", "nft": "nftables", "debootstrap": "debootstrap"}
_POOL: Final = "warm"
_SETTLE_S: Final = 3.0
_POLL_INTERVAL_S: Final = 0.01
# The worker of a ready spare learns from its next heartbeat that it must leave its class's queue.
_STANDBY_S: Final = 6.0


@dataclass(frozen=True)
class ProvisionTiming:
    """Durations of provisioning and destroying one shard, in seconds.

    Attributes:
        steps: the seconds of each step, by its text.
    """

    ready_s: float
    answered_s: float
    steps: Mapping[str, float]
    destroy_s: float
    memory: Mapping[str, Any]


@dataclass(frozen=True)
class SpareTiming:
    """Times of one spare, in seconds after the request that activated it."""

    answered_s: float
    sent_s: float
    claimed_s: float


def measure() -> Result:
    """Make ten shards and ten bare containers alternately; then activate ten spares one by one."""
    _check_machine()
    with ExitStack() as opened:
        name = opened.enter_context(TemporaryDirectory(prefix="benchmark-", dir=_FOLDER, ignore_cleanup_errors=True))
        folder = Path(name)
        folder.chmod(0o711)
        world = opened.enter_context(running_world(folder, bridge=_BRIDGE, net=_NETWORK, first_id=_FIRST_ID))
        operator = opened.enter_context(Operator(world.stack))
        rootfs = opened.enter_context(shown((TEMPLATES / "templates" / "general").resolve()))
        bare = opened.enter_context(bare_lxc(folder / "bare", rootfs, _BRIDGE))
        made, peers = _provision_alternately(operator, bare)
        spares = _activate_spares(world, operator)
    return _result(made, peers, spares)


def _check_machine() -> None:
    missing = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    if os.geteuid() or missing:
        lacking = f" Missing packages: {', '.join(missing)}." if missing else ""
        raise CannotMeasure(f"The benchmark makes real containers: run it as root, with LXC installed.{lacking}")


def _provision_alternately(operator: Operator, bare: BareLxc) -> tuple[list[ProvisionTiming], list[BareStart]]:
    # The first container of each kind fills the kernel's disk cache, so it does not count.
    bare.live("bare-0")
    _provision(operator, "bench-0")
    made, peers = [], []
    for number in range(1, _SHARDS + 1):
        made.append(_provision(operator, f"bench-{number}", measure_memory=number == 1))
        peers.append(bare.live(f"bare-{number}"))
    return made, peers


def _provision(operator: Operator, name: str, *, measure_memory: bool = False) -> ProvisionTiming:
    began = time.time()
    body = {"name": name, "template": "general", "provider": "lxc", "provision": True}
    operator.post("shards", body)
    answered = time.time()
    until(lambda: operator.shard(name)["state"] == "ready", f"{name} to be ready", every_s=_POLL_INTERVAL_S)
    ready = time.time()
    operation = until(lambda: _finished_operation(operator, name, "provision"), "the operation to end")
    memory: dict[str, Any] = {}
    if measure_memory:
        # The warm spare runner of the shard finishes its imports in this time.
        time.sleep(_SETTLE_S)
        memory = memory_at_rest(operator.shard(name)["provider_ref"])
    return ProvisionTiming(ready - began, answered - began, _steps(operation, began), _destroy(operator, name), memory)


def _finished_operation(operator: Operator, name: str, kind: str) -> dict[str, Any] | None:
    operation = operator.operations(name, kind)[0]
    assert operation["state"] != "failed", operation
    return operation if operation["state"] == "done" else None


def _destroy(operator: Operator, name: str) -> float:
    began = time.time()
    operator.post(f"shards/{name}/operations", {"kind": "destroy", "force": True})
    until(lambda: operator.shard(name)["state"] == "gone", f"{name} to be gone", every_s=_POLL_INTERVAL_S)
    return time.time() - began


def _steps(operation: Mapping[str, Any], began: float) -> dict[str, float]:
    """Return the seconds of each step of an operation, by its text without the container's reference."""
    ref = next(step["text"] for step in operation["steps"] if step["text"].startswith("as ")).removeprefix("as ")
    named = [(_timestamp(step["at"]), step["text"].replace(ref, "it")) for step in operation["steps"]]
    moments = [(began, "ask for it, and begin"), *named, (_timestamp(operation["ended_at"]), "")]
    found: dict[str, float] = {}
    for (at, text), (after, _) in pairwise(moments):
        found[text] = found.get(text, 0) + after - at
    return found


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _activate_spares(world: World, operator: Operator) -> list[SpareTiming]:
    """Let autoscaling make spares, stop autoscaling, and activate each spare for a waiting job."""
    make_pool(world, _POOL, "persistent", rules(minimum=0, maximum=_SHARDS + 1, spares=_SHARDS))
    names = until(lambda: _ready_spares(operator), "the spares to be ready")
    world.manage("shell", "--no-imports", "-c", _STOP_SCALING)
    time.sleep(_STANDBY_S)
    return [_activate(world, operator, name) for name in names]


_STOP_SCALING = "from shards.models import Pool; Pool.objects.update(scaling_dry_run=True)"


def _ready_spares(operator: Operator) -> list[str] | None:
    shards = operator.shards_of(_POOL)
    ready = [shard["name"] for shard in shards if shard["is_spare"] and shard["state"] == "ready"]
    return sorted(ready) if len(ready) == _SHARDS else None


def _activate(world: World, operator: Operator, name: str) -> SpareTiming:
    """Activate a spare for a waiting job, and destroy it afterwards, so that the next job waits too."""
    job_id = world.client.submit({"prompt": "RUN: sleep 600"})
    # A round has considered the job in this time and found no slot.
    time.sleep(0.5)
    assert not world.client.job(job_id)["attempts"]
    began = time.time()
    operator.post(f"shards/{name}/activate", {})
    answered = time.time()
    job = until(lambda: _claimed_job(world, job_id), f"{name} to claim the job", every_s=_POLL_INTERVAL_S)
    # The job's end is not awaited, because a destroyed container cannot report it.
    world.client.cancel(job_id)
    _destroy(operator, name)
    attempt = job["attempts"][0]
    assert attempt["shard"] == name, job
    return SpareTiming(
        answered - began, _timestamp(attempt["sent_at"]) - began, _timestamp(attempt["claimed_at"]) - began
    )


def _claimed_job(world: World, job_id: str) -> dict[str, Any] | None:
    job = world.client.job(job_id)
    return job if job["attempts"] and job["attempts"][0]["claimed_at"] else None


def _result(made: Sequence[ProvisionTiming], peers: Sequence[BareStart], spares: Sequence[SpareTiming]) -> Result:
    ready, claimed = [one.ready_s for one in made], [one.claimed_s for one in spares]
    return Result(
        "provision_time",
        round(statistics.median(ready), 2),
        "s",
        round(statistics.median(peer.running_s for peer in peers), 2),
        TARGET_S,
        {
            "unit": "from the request that adds a shard to one that is ready; median",
            "ready_ms": _ms(ready),
            "steps_ms": {text: _median_ms([one.steps[text] for one in made]) for text in made[0].steps},
            "destroy_ms": _ms([one.destroy_s for one in made]),
            "from_warm_spare_ms": _ms(claimed),
            "from_warm_spare_steps_ms": {
                "answered": _median_ms([one.answered_s for one in spares]),
                "the waiting job sent": _median_ms([one.sent_s for one in spares]),
                "claimed": _median_ms(claimed),
            },
            "memory_mb": made[0].memory,
            "peer": "lxc-copy (overlay) and lxc-start of the same root file system, until systemd is through",
            "peer_ms": _ms([peer.running_s for peer in peers]),
            "peer_steps_ms": {
                "lxc-copy": _median_ms([peer.copy_s for peer in peers]),
                "lxc-start": _median_ms([peer.start_s for peer in peers]),
                "boot": _median_ms([peer.boot_s for peer in peers]),
                "lxc-destroy": _median_ms([peer.destroy_s for peer in peers]),
            },
            "peer_systemd": sorted({peer.systemd for peer in peers}),
        },
        checks=(
            Check("p99 of it", round(percentile(ready, 99), 2), TARGET_S, "s"),
            Check("from a warm spare to a claimed job, p99", round(percentile(claimed, 99), 2), SPARE_TARGET_S, "s"),
        ),
    )


def _ms(seconds: Sequence[float]) -> dict[str, float]:
    return spread([second * 1000 for second in seconds])


def _median_ms(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds) * 1000, 1)
