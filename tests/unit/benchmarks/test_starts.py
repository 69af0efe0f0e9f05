"""Times of a job's steps."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from tests.benchmarks.starts import boot_time, read_start, wall_time
from workers.sandbox import process_tree

SUBMITTED = 1_767_225_600.0  # 2026-01-01T00:00:00Z
JOB: dict[str, Any] = {
    "attempts": [{"sent_at": "2026-01-01T00:00:00.040000Z", "claimed_at": "2026-01-01T00:00:00.070000Z"}]
}


def phase(name: str, ms: int) -> dict[str, Any]:
    return {"kind": "job.phase", "at": f"2026-01-01T00:00:00.{ms:03}000+00:00", "data": {"phase": name}}


def test_steps_are_milliseconds_after_the_request() -> None:
    events = [phase("preparing", 80), phase("agent", 90), {"kind": "agent.text", "at": "", "data": {}}]
    start = read_start(SUBMITTED, SUBMITTED + 0.03, SUBMITTED + 0.11, JOB, events)
    steps = (start.answered, start.dispatched, start.claimed, start.preparing, start.agent_phase, start.agent)
    assert steps == pytest.approx((30, 40, 70, 80, 90, 110))
    assert start.without_clone == start.agent


def test_without_clone_omits_only_the_cloning_phase() -> None:
    events = [phase("preparing", 80), phase("cloning", 90), phase("agent", 590)]
    start = read_start(SUBMITTED, SUBMITTED + 0.03, SUBMITTED + 0.62, JOB, events)
    assert start.without_clone == pytest.approx(120)


def test_wall_time_returns_the_end_of_the_tick() -> None:
    assert wall_time(250, 1000.0, hz=100) == pytest.approx(1002.51)


def test_wall_time_of_this_process_is_in_the_past() -> None:
    info = process_tree.read(os.getpid())
    assert info is not None
    started = wall_time(info.started, boot_time())
    assert time.time() - 86_400 < started <= time.time() + 0.02
