"""How far the estimated wait is from the wait, over a day with bursts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from jobs.dispatch.fair_share import TenantView
from tests.benchmarks.fairness import shards
from tests.benchmarks.result import Result, percentile
from tests.benchmarks.simulated_line import Arrival, Line, Sample, durations

# Half of the estimates may be this much off: how long jobs take is a matter of chance, and so are bursts.
TARGET = 0.6
DAY_S = 24 * 3600.0
SLOTS, TENANTS = 16, 8
# A wait below this counts as this: nobody minds ten seconds for twenty.
_LEAST_S = 60.0
_SEED = 11


def measure() -> Result:
    """Estimate for every twentieth job when it is submitted, and see when it started."""
    pick = random.Random(_SEED)
    line = Line(shards(SLOTS), {tenant: TenantView() for tenant in range(TENANTS)}, sample_every=20)
    line.play(_arrivals(pick), 4 * DAY_S)
    known = [sample for sample in line.samples if sample.waited_s is not None]
    waited = [sample for sample in known if sample.ahead and sample.mean_s is not None]
    told = [sample for sample in waited if sample.estimate_s is not None]
    errors = [_error(sample, sample.estimate_s) for sample in told]
    naive = [_error(sample, sample.ahead * (sample.mean_s or 0.0) / sample.slots) for sample in told]
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
            "told": len(told),
            "p90": round(percentile(errors, 90), 3),
            "error_s": {p: round(percentile(_seconds(told), p)) for p in (50, 90)},
            "waits_s": {p: round(percentile([s.waited_s or 0.0 for s in told], p)) for p in (50, 90)},
            "bias": round(
                sum((s.estimate_s or 0) - (s.waited_s or 0) for s in told) / sum(s.waited_s or 0 for s in told), 3
            ),
            "peer": "jobs that wait, times their usual length, over the slots",
        },
    )


def _error(sample: Sample, estimate_s: float | None) -> float:
    waited_s = sample.waited_s or 0.0
    return abs((estimate_s or 0.0) - waited_s) / max(waited_s, _LEAST_S)


def _bias(samples: Sequence[Sample]) -> float:
    """By how much all estimates together are too long, in relation to the waits."""
    waited_s = sum(sample.waited_s or 0.0 for sample in samples)
    return sum((sample.estimate_s or 0.0) - (sample.waited_s or 0.0) for sample in samples) / waited_s


def _seconds(samples: Sequence[Sample]) -> list[float]:
    return [abs((sample.estimate_s or 0.0) - (sample.waited_s or 0.0)) for sample in samples]


def _arrivals(pick: random.Random) -> list[Arrival]:
    """Four days: quiet nights, busy days, and bursts of one tenant's; lengths vary by lane and by chance."""
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
