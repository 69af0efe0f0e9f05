"""How long a waiting job may wait: the queue played forward over the slots there are. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

# A job that has run longer than its like is taken to need this share of their time still.
_OVERDUE_SHARE = 0.25


@dataclass(frozen=True)
class WaitingView:
    """A waiting job, as the estimate sees it.

    Attributes:
        shards: names of those that could take it, well or not.
        duration_s: what jobs like it took; None when there were none.
    """

    job_id: int
    shards: tuple[str, ...]
    duration_s: float | None


@dataclass(frozen=True)
class SlotsView:
    """The slots of a shard that is well.

    Attributes:
        free: nobody has taken these.
        remaining_s: for each running job, how long it may go on; None when nobody can say.
    """

    free: int
    remaining_s: tuple[float | None, ...]


def remaining(duration_s: float | None, elapsed_s: float) -> float | None:
    """How long a running job may go on, given what jobs like it took."""
    return None if duration_s is None else max(duration_s - elapsed_s, duration_s * _OVERDUE_SHARE)


def estimate(waiting: Sequence[WaitingView], slots: Mapping[str, SlotsView]) -> dict[int, float]:
    """Estimate for waiting jobs in how many seconds each may start.

    Each takes the slot that is free first, in order; so the estimate follows from position, recent durations and
    capacity. It knows nothing of jobs that are yet to come.

    Args:
        waiting: in the order in which they are dispatched.
        slots: of the shards that are well, by name.

    Returns:
        Seconds by job. A job is missing when nobody can say: no shard for it is well, or what is before it has no like.
    """
    free_at = {name: _heap(view) for name, view in slots.items()}
    found: dict[int, float] = {}
    for job in waiting:
        usable = [name for name in job.shards if free_at.get(name)]
        if not usable:
            continue
        best = min(usable, key=lambda name: free_at[name][0])
        start_s = heapq.heappop(free_at[best])
        found[job.job_id] = start_s
        # A job of unknown length takes its slot out of the estimate.
        if job.duration_s is not None:
            heapq.heappush(free_at[best], start_s + job.duration_s)
    return found


def _heap(view: SlotsView) -> list[float]:
    heap = [0.0] * view.free + [left for left in view.remaining_s if left is not None]
    heapq.heapify(heap)
    return heap


def typical(durations: Iterable[tuple[tuple[str, ...], float]]) -> Callable[[tuple[str, ...]], float | None]:
    """Tell what jobs take by their capabilities: the median of those with the same, else of all.

    Args:
        durations: capabilities and seconds of jobs that have completed.
    """
    by_kind: dict[tuple[str, ...], list[float]] = {}
    everything: list[float] = []
    for kind, seconds in durations:
        by_kind.setdefault(kind, []).append(seconds)
        everything.append(seconds)
    medians = {kind: _median(values) for kind, values in by_kind.items()}
    overall = _median(everything) if everything else None
    return lambda kind: medians.get(kind, overall)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
