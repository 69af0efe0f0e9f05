"""Duration of a dispatch round over a thousand shards, by the number of waiting jobs of a thousand tenants."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from myctobot.stack.plan import CHECKOUT
from tests.benchmarks.result import Check, Result
from tests.benchmarks.world import CLASSES, SHARDS, TENANTS
from tests.stacks import RunningStack, bare_environment, running_stack

TARGET_MS = 100
MAX_GROWTH = 2
# The rounds run in a process of this benchmark, so the stack needs only the database and the broker.
WITHOUT = ("web", "gateway", "control", "beat", "shard")
_TIMEOUT_S = 900


def measure() -> Result:
    """Time rounds that find no free slot, and rounds that fill a hundred slots."""
    steps = in_stack("tests.benchmarks.rounds")
    few, many = steps[0], steps[-1]
    return Result(
        "dispatch_round",
        many["nothing_free_ms"]["p50"],
        "ms",
        many["every_job_read_ms"],
        TARGET_MS,
        {
            "unit": f"a round that finds no free slot, with {many['waiting']:,} jobs waiting",
            "shards": SHARDS,
            "classes": CLASSES,
            "tenants": TENANTS,
            "steps": steps,
            "peer": "reading every waiting job in order and routing each, as job queues in a database do",
        },
        checks=(
            Check(
                "time for a dispatched job, most against fewest waiting",
                round(many["ms_each"] / few["ms_each"], 2),
                MAX_GROWTH,
                "times",
            ),
            Check("p99 with nothing free", many["nothing_free_ms"]["p99"], TARGET_MS, "ms"),
        ),
    )


def in_stack(module: str) -> Any:
    """Run a module's ``main`` in a process with Django and an empty database, and return the JSON that it prints."""
    options = [option for name in WITHOUT for option in ("--without", name)]
    with (
        TemporaryDirectory(prefix="benchmark-") as folder,
        running_stack(Path(folder, "home"), *options) as stack,
    ):
        return _run(stack, module)


def _run(stack: RunningStack, module: str) -> Any:
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", f"from {module} import main; main()"],
        cwd=CHECKOUT,
        env=bare_environment(stack.home, {"LOG_LEVEL": "WARNING"}),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])
