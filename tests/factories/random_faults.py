"""Plan of a run of random faults: faults and jobs that depend on a seed only; pure."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

# Faults of each part. A signal ends a process, which its supervisor starts again, if it has one.
FAULTS: Final[dict[str, tuple[str, ...]]] = {
    "web": ("kill", "terminate", "stop"),
    "gateway": ("kill", "terminate", "stop"),
    "control": ("kill", "terminate", "stop"),
    "beat": ("kill", "terminate", "stop"),
    "shard-local": ("kill", "terminate", "stop", "fill_disk"),
    "shard-local-2": ("kill", "terminate", "stop", "cut_link"),
    "runner": ("kill", "terminate", "stop"),
    "agent": ("kill", "stop"),
    "redis": ("kill", "terminate", "stop", "flush"),
    "postgres": ("kill", "restart", "crash", "stop"),
}
# Faults with a length; the others last until the part is back.
LASTING: Final = frozenset({"stop", "fill_disk", "cut_link"})
# Silence of a runner after which its attempt is lost, with a margin.
LONG_STOP_S: Final = 105.0
_PROMPT_S: Final = (0, 1, 2, 4, 8)


@dataclass(frozen=True)
class PlannedFault:
    """Fault of the plan.

    Attributes:
        at_s: seconds after the start of the run.
        lasts_s: length of a lasting fault, in seconds; 0 for others.
        pick: choice among several runners or agents, from 0 to 1.
    """

    at_s: float
    part: str
    fault: str
    lasts_s: float
    pick: float

    def __str__(self) -> str:
        length = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_s:6.1f} s  {self.fault} {self.part}{length} (pick {self.pick:.2f})"


@dataclass(frozen=True)
class JobSpec:
    """Job of the load.

    Attributes:
        number: its place in the load; the idempotency key contains it.
        pause_s: pause before its submit.
        branch: its own branch; empty for the branch that the product chooses.
        concurrency_key: empty for none; at most one job with a key runs at a time.
        cancel_after_s: seconds from its submit to its cancel; None for no cancel.
        resubmits: number of repeated submits, at random moments of its life.
        max_attempts: bound on attempts that ran.
    """

    number: int
    pause_s: float
    work_s: int
    has_repository: bool
    branch: str
    concurrency_key: str
    has_callback: bool
    cancel_after_s: float | None
    resubmits: int
    max_attempts: int


def seed_of_day(day: date) -> int:
    """Return the seed of a day; ``day`` is printed with it, so that a run can be repeated."""
    return int.from_bytes(hashlib.sha256(f"random faults {day}".encode()).digest()[:4], "big")


def plan_faults(seed: int, duration_s: float, *, longest_s: float = 15.0) -> tuple[PlannedFault, ...]:
    """Return the faults of a run in the order of their starts.

    Every kind of fault happens once before any kind happens again. The pauses are of three kinds, so that some faults
    overlap, some follow each other, and some let the parts recover.

    Args:
        longest_s: longest time of a lasting fault. Runs of ten minutes also silence runners until they are lost.
    """
    chance = random.Random(f"{seed} faults")
    deck = _shuffled_kinds(chance)
    found: list[PlannedFault] = []
    at_s = chance.uniform(3, 6)
    while at_s < duration_s:
        part, fault = next(deck)
        lasts_s = chance.uniform(2, longest_s) if fault in LASTING else 0.0
        if (part, fault) == ("runner", "stop") and duration_s >= 600 and chance.random() < 0.5:
            lasts_s = LONG_STOP_S
        found.append(PlannedFault(at_s, part, fault, lasts_s, chance.random()))
        at_s += chance.choice((chance.uniform(0.1, 2), chance.uniform(3, 9), chance.uniform(10, 25)))
    return tuple(found)


def _shuffled_kinds(chance: random.Random) -> Iterator[tuple[str, str]]:
    kinds = [(part, fault) for part, faults in FAULTS.items() for fault in faults]
    while True:
        yield from chance.sample(kinds, len(kinds))


def plan_jobs(seed: int) -> Iterator[JobSpec]:
    """Yield the jobs of a run without an end."""
    chance = random.Random(f"{seed} jobs")
    number = 0
    while True:
        number += 1
        has_repository = chance.random() < 0.6
        yield JobSpec(
            number=number,
            pause_s=chance.uniform(0.2, 2),
            work_s=chance.choice(_PROMPT_S),
            has_repository=has_repository,
            branch=f"work/{number}" if has_repository and chance.random() < 0.5 else "",
            concurrency_key=chance.choice(("deploy", "nightly")) if chance.random() < 0.3 else "",
            has_callback=chance.random() < 0.75,
            cancel_after_s=chance.uniform(0, 12) if chance.random() < 0.2 else None,
            resubmits=chance.choice((0, 1, 1, 3)),
            max_attempts=chance.choice((2, 10, 10)),
        )


def callback_answer(seed: int, callback: int, tries: int) -> tuple[int, float]:
    """Return the status and the delay in seconds of the answer to a callback.

    Args:
        callback: number of the callback by its first arrival.
        tries: earlier tries of the same callback. The second repetition is always accepted, so that the run ends.
    """
    chance = random.Random(f"{seed} callback {callback} {tries}").random()
    if tries >= 2:
        return 200, 0.0
    if chance < 0.2:
        return 500, 0.0
    if chance < 0.25:
        # The sender gives up after ten seconds and tries again, although the receiver has the callback.
        return 200, 11.0
    return 200, 2.0 if chance < 0.4 else 0.0
