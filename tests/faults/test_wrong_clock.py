"""A shard whose clock is an hour wrong: what counts is the database's, and how long something took."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from myctobot.stack.plan import CHECKOUT
from tests.faults.reckoning import World, reckon, submit_piece, world

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240), pytest.mark.needs("faketime")]

# Its runners are started with the program that ``sys.executable`` names, so they see the wrong time as well.
_AS = "import runpy, sys; sys.executable = sys.argv.pop(1); runpy.run_module('workers.main', run_name='__main__')"


@contextmanager
def worker_at(place: World, offset: str, folder: Path) -> Iterator[None]:
    """Run the stack's shard by hand, with a clock that is so far off."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec faketime -f {offset} {sys.executable} "$@"\n')
    python.chmod(0o755)
    config = str(place.client.stack.shards["local"])
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [str(python), "-c", _AS, str(python), "--config", config],
            cwd=CHECKOUT,
            env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(worker.pid, 15)
        worker.wait(60)


@pytest.mark.parametrize("hours", [1, -1])
def test_nothing_but_the_times_of_its_events_is_wrong(tmp_path: Path, hours: int) -> None:
    with world(tmp_path, "--without", "shard") as place, worker_at(place, f"{hours:+d}h", tmp_path):
        began = time.time()
        piece = submit_piece(place, "clock", 3, timeout_s=60, no_output_timeout_s=20)
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
