"""Shard whose clock is an hour wrong: only the database's clock and durations matter."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.effects import check_effects, submit_push_job, world
from tests.fixtures.shard_worker import shard_worker

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240), pytest.mark.needs("faketime")]

# The worker starts runners with the program in ``sys.executable``, so they see the wrong time as well.
_RUN_WORKER = (
    "import runpy, sys; sys.executable = sys.argv.pop(1); runpy.run_module('workers.main', run_name='__main__')"
)


def python_at(offset: str, folder: Path) -> Path:
    """Write a program that runs Python with a shifted clock, and return its path."""
    # The program ``faketime`` is not used itself, because as the parent it would receive the worker's signals.
    environment = subprocess.run(
        ["faketime", "-f", offset, "env"], capture_output=True, text=True, timeout=10, check=True
    )
    changes = [f"'{line}'" for line in environment.stdout.splitlines() if line.startswith(("LD_PRELOAD=", "FAKETIME="))]
    assert len(changes) == 2, environment.stdout
    # Under faketime a sleep until a moment of the right clock fails, so every Python here waits for an event instead.
    (folder / "sitecustomize.py").write_text(
        "import threading, time\ntime.sleep = lambda seconds: threading.Event().wait(max(0, seconds)) and None\n"
    )
    python = folder / "python"
    # The monotonic clock stays right, because no administrator can set it.
    changes += ["FAKETIME_DONT_FAKE_MONOTONIC=1", f"PYTHONPATH={folder}"]
    python.write_text(f'#!/bin/sh\nexec env {" ".join(changes)} {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


@pytest.mark.long
@pytest.mark.parametrize("hours", [1, -1])
def test_a_wrong_clock_changes_only_the_times_of_events(tmp_path: Path, hours: int) -> None:
    python = str(python_at(f"{hours:+d}h", tmp_path))
    with world(tmp_path, "--without", "shard") as place:
        config = place.client.stack.shards["local"]
        with shard_worker(config, tmp_path / "worker.log", command=(python, "-c", _RUN_WORKER, python)):
            began = time.time()
            push = submit_push_job(place, "clock", 3, timeout_s=180, no_output_timeout_s=90)
            job = check_effects(place, push)
            ended = time.time()
            events = place.client.events(push.job_id)
    assert len(job["attempts"]) == 1
    for name in ("created_at", "started_at", "finished_at"):
        assert began - 2 < datetime.fromisoformat(job[name]).timestamp() < ended + 2, name
    # Events carry the time of the shard's clock; their numbers give the order.
    started = datetime.fromisoformat(job["started_at"])
    reported = next(datetime.fromisoformat(event["at"]) for event in events if event["kind"] == "tool.call")
    assert abs(reported - started - timedelta(hours=hours)) < timedelta(minutes=2)
