"""Time that the network namespace and the filter of system calls add to the start of a job."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch

from tests.benchmarks.result import CannotMeasure, Result, median, spread
from workers.errors import JobError
from workers.sandbox import plan
from workers.sandbox.sandbox import ResourceLimits, Sandbox, SandboxConfig

TARGET_MS: Final = 60
ROUNDS: Final = 60
WARM_UP: Final = 5
UID: Final = 64607
# No connection is made, so nothing needs to answer here.
GATEWAY: Final = "http://127.0.0.1:9"
BARE, FILTERED, NETWORKED, HARDENED = "neither", "filter_only", "network_only", "both"


def measure() -> Result:
    """Start a process in four variants of the sandbox, and compare the one that jobs get with the bare one."""
    with TemporaryDirectory(prefix="sandbox-cost-") as folder:
        # The agent's user passes through the folder.
        Path(folder).chmod(0o711)
        try:
            starts = asyncio.run(_measure_all(Path(folder)))
        except JobError as error:
            raise CannotMeasure(f"the sandbox does not work here: {error}") from error
    medians = {variant: median(values) for variant, values in starts.items()}
    bare = medians[BARE]
    return Result(
        "sandbox_cost",
        round(max(0.0, medians[HARDENED] - bare), 1),
        "ms",
        bare,
        TARGET_MS,
        {
            "starts": {variant: spread(values) for variant, values in starts.items()},
            "added": {
                "network": round(medians[NETWORKED] - bare, 1),
                "filter": round(medians[FILTERED] - bare, 1),
            },
            "started_by": "root" if os.geteuid() == 0 else "an ordinary user",
            "peer": "the start of the same sandbox without the network namespace and without the filter",
        },
    )


async def _measure_all(folder: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {variant: [] for variant in (BARE, FILTERED, NETWORKED, HARDENED)}
    for number in range(WARM_UP + ROUNDS):
        for variant, values in found.items():
            elapsed = await _start(folder, variant)
            if number >= WARM_UP:
                values.append(elapsed)
    return found


async def _start(folder: Path, variant: str) -> float:
    """Return the milliseconds of one start."""
    config = SandboxConfig(ResourceLimits(), UID, own_network=variant in (NETWORKED, HARDENED))
    sandbox = Sandbox(config, folder)
    try:
        with _filter(present=variant in (FILTERED, HARDENED)):
            began = time.perf_counter()
            started = await sandbox.start(["sh", "-c", "echo; exec sleep 60"], env={}, gateway_url=GATEWAY)
            await started.stdout.readline()
            return (time.perf_counter() - began) * 1000
    finally:
        await sandbox.close()


@contextmanager
def _filter(*, present: bool) -> Iterator[None]:
    """Leave out the filter's option, which the product cannot do."""
    options = plan.options

    def without(*arguments: Any) -> list[str]:
        found = options(*arguments)
        position = found.index("--seccomp")
        return found[:position] + found[position + 2 :]

    with patch.object(plan, "options", options if present else without):
        yield
