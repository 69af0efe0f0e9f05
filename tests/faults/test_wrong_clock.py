"""A shard whose clock is an hour wrong: what counts is the database's, and how long something took."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.effects import reckon, submit_piece, world
from tests.fixtures.shard_worker import shard_worker

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240), pytest.mark.needs("faketime")]

# Its runners are started with the program that ``sys.executable`` names, so they see the wrong time as well.
_AS = "import runpy, sys; sys.executable = sys.argv.pop(1); runpy.run_module('workers.main', run_name='__main__')"


def python_at(offset: str, folder: Path) -> Path:
    """A Python whose clock is so far off, for a start with this file's name."""
    # Not by the program itself: it would stand between us and the worker, and take its signals.
    said = subprocess.run(["faketime", "-f", offset, "env"], capture_output=True, text=True, timeout=10, check=True)
    changes = [f"'{line}'" for line in said.stdout.splitlines() if line.startswith(("LD_PRELOAD=", "FAKETIME="))]
    assert len(changes) == 2, said.stdout
    # A sleep until a moment of the right clock is refused by faketime as one in the past; every Python here reads this.
    (folder / "sitecustomize.py").write_text(
        "import threading, time\ntime.sleep = lambda seconds: threading.Event().wait(max(0, seconds)) and None\n"
    )
    python = folder / "python"
    # The monotonic clock is right: nobody sets that one.
    changes += ["FAKETIME_DONT_FAKE_MONOTONIC=1", f"PYTHONPATH={folder}"]
    python.write_text(f'#!/bin/sh\nexec env {" ".join(changes)} {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


@pytest.mark.parametrize("hours", [1, -1])
def test_nothing_but_the_times_of_its_events_is_wrong(tmp_path: Path, hours: int) -> None:
    python = str(python_at(f"{hours:+d}h", tmp_path))
    with world(tmp_path, "--without", "shard") as place:
        config = place.client.stack.shards["local"]
        with shard_worker(config, tmp_path / "worker.log", command=(python, "-c", _AS, python)):
            began = time.time()
            piece = submit_piece(place, "clock", 3, timeout_s=180, no_output_timeout_s=90)
            job = reckon(place, piece)
            ended = time.time()
            events = place.client.events(piece.job_id)
    assert len(job["attempts"]) == 1
    for name in ("created_at", "started_at", "finished_at"):
        assert began - 2 < datetime.fromisoformat(job[name]).timestamp() < ended + 2, name
    # The shard says what its clock says; the order comes from the numbers.
    started = datetime.fromisoformat(job["started_at"])
    said = next(datetime.fromisoformat(event["at"]) for event in events if event["kind"] == "tool.call")
    assert abs(said - started - timedelta(hours=hours)) < timedelta(minutes=2)
