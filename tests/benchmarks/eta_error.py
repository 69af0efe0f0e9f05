"""Error of the estimated wait over a day with bursts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from jobs.dispatch.fair_share import TenantView
from tests.benchmarks.fairness import shards
from tests.benchmarks.result import Result, percentile
from tests.benchmarks.simulated_line import Arrival, Sample, SimulatedQueue, durations

# The median error may be this large, because job lengths and bursts are random.
TARGET = 0.6
DAY_S = 24 * 3600.0
SLOTS, TENANTS = 16, 8
# A shorter wait counts as this long, because an error of ten seconds does not matter to a user.
_MIN_WAIT_S = 60.0
_SEED = 11


def measure() -> Result:
    """Estimate the wait of every twentieth job at its submission, and compare it with the actual wait."""
    pick = random.Random(_SEED)
    queue = SimulatedQueue(shards(SLOTS), {tenant: TenantView() for tenant in range(TENANTS)}, sample_every=20)
    queue.play(_arrivals(pick), 4 * DAY_S)
    known = [sample for sample in queue.samples if sample.waited_s is not None]
    waited = [sample for sample in known if sample.ahead and sample.mean_s is not None]
    estimated = [sample for sample in waited if sample.estimate_s is not None]
    errors = [_error(sample, sample.estimate_s) for sample in estimated]
    naive = [_error(sample, sample.ahead * (sample.mean_s or 0.0) / sample.slots) for sample in estimated]
    return Result(
        "eta_error",
        round(percentile(errors, 50), 3),
        "of the wait",
        round(percentile(naive, 50), 3),
        TARGET,
        {
            "unit": "the median of |estimate - wait| / wait, of jobs that had to wait",
            "jobs": len(known),
            "had_to_wait": len(waited),
            "estimated": len(estimated),
            "p90": round(percentile(errors, 90), 3),
            "error_s": {p: round(percentile(_errors_s(estimated), p)) for p in (50, 90)},
            "waits_s": {p: round(percentile([s.waited_s or 0.0 for s in estimated], p)) for p in (50, 90)},
            "bias": round(_bias(estimated), 3),
            "peer": "jobs that wait, times their usual length, over the slots",
        },
    )


def _error(sample: Sample, estimate_s: float | None) -> float:
    waited_s = sample.waited_s or 0.0
    return abs((estimate_s or 0.0) - waited_s) / max(waited_s, _MIN_WAIT_S)


def _bias(samples: Sequence[Sample]) -> float:
    """Return the sum of the estimates minus the sum of the waits, relative to the waits."""
    waited_s = sum(sample.waited_s or 0.0 for sample in samples)
    return sum((sample.estimate_s or 0.0) - (sample.waited_s or 0.0) for sample in samples) / waited_s


def _errors_s(samples: Sequence[Sample]) -> list[float]:
    return [abs((sample.estimate_s or 0.0) - (sample.waited_s or 0.0)) for sample in samples]


def _arrivals(pick: random.Random) -> list[Arrival]:
    """Return four days of jobs: quiet nights, busy days, bursts of one tenant, and random lengths for each lane."""
    found: list[Arrival] = []
    now = 0.0
    while now < 4 * DAY_S:
        busy = 1.1 if 8 * 3600 < now % DAY_S < 18 * 3600 else 0.2
        now += pick.expovariate(busy * SLOTS / 420)
        tenant = min(int(pick.expovariate(0.6)), TENANTS - 1)
        found.append(_arrival(pick, now, tenant))
        if pick.random() < 0.002:
            found += [_arrival(pick, now, TENANTS - 1) for _ in range(150)]
    return found


def _arrival(pick: random.Random, at: float, tenant: int) -> Arrival:
    lane = "browser+git" if pick.random() < 0.2 else "git"
    mean_s = 720 if lane == "browser+git" else 300
    return Arrival(at, tenant, lane, durations(pick, mean_s), pick.choices((10, 20, 30), (1, 8, 2))[0])
