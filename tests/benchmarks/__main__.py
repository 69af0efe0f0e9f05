"""Command ``python -m tests.benchmarks [NAME]``: it measures and prints one line of JSON for each benchmark."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")
django.setup(set_prefix=False)

# Simulations use the product's decisions, and these import tables.
from tests.benchmarks import (  # noqa: E402  # see above
    autoscale_day,
    clone,
    dispatch_round,
    eta_error,
    failover_time,
    fairness,
    fanout_burst,
    fanout_many,
    fanout_slow_viewer,
    fanout_steady,
    heartbeats,
    ingest_scaling,
    lifecycle_throughput,
    provision_time,
    router,
    runner_memory,
    sandbox_cost,
    submit_to_start,
    web_memory,
    worker_memory,
)
from tests.benchmarks.machine import this_machine  # noqa: E402  # see above
from tests.benchmarks.page import row, with_rows  # noqa: E402  # see above
from tests.benchmarks.result import CannotMeasure, Result  # noqa: E402  # see above

BENCHMARKS = {
    "worker_memory": worker_memory.measure,
    "web_memory": web_memory.measure,
    "runner_memory": runner_memory.measure,
    "sandbox_cost": sandbox_cost.measure,
    "submit_to_start": submit_to_start.measure,
    "clone": clone.measure,
    "fanout_steady": fanout_steady.measure,
    "fanout_burst": fanout_burst.measure,
    "fanout_slow_viewer": fanout_slow_viewer.measure,
    "fanout_many": fanout_many.measure,
    "ingest_scaling": ingest_scaling.measure,
    "router": router.measure,
    "dispatch_round": dispatch_round.measure,
    "fairness": fairness.measure,
    "eta_error": eta_error.measure,
    "failover_time": failover_time.measure,
    "lifecycle_throughput": lifecycle_throughput.measure,
    "heartbeats": heartbeats.measure,
    "autoscale_day": autoscale_day.measure,
    "provision_time": provision_time.measure,
}
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "benchmarks.md"


def main() -> int:
    """Run one benchmark or all; return 1 when a target was missed or a benchmark could not run."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure MyCTOBot on this machine.")
    parser.add_argument("name", nargs="?", choices=BENCHMARKS, help="run only this benchmark")
    parser.add_argument("--only", choices=BENCHMARKS, help="same as the positional argument")
    parser.add_argument("--write-docs", action="store_true", help=f"write the figures to {PAGE.name}")
    options = parser.parse_args()
    # SIGTERM raises an exception, so that the stacks are stopped and removed as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    only = options.name or options.only
    found = [_measure(name) for name in ([only] if only else BENCHMARKS)]
    results = [result for result in found if result is not None]
    if options.write_docs:
        machine = this_machine()
        PAGE.write_text(with_rows(PAGE.read_text(), [row(result, machine) for result in results]))
    return 0 if all(result is not None and result.met for result in found) else 1


def _measure(name: str) -> Result | None:
    _print_progress(f"{name}: measuring")
    began = time.monotonic()
    try:
        result = BENCHMARKS[name]()
    except CannotMeasure as error:
        _print_progress(f"{name}: {error}")
        return None
    sys.stdout.write(f"{result.line()}\n")
    sys.stdout.flush()
    _print_progress(f"{name}: {result.verdict()}; took {time.monotonic() - began:.0f} s")
    return result


def _print_progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
