"""Check of one fault while two jobs run: each job ends once and has its effects once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.acceptance.client import Client
from tests.faults.effects import World, check_effects, submit_push_job

WORK_S = 6
Faults = Mapping[str, Callable[[Client], None]]


def fault_parameters(faults: Faults, long: Faults) -> list[Any]:
    """Return the names of faults as parameters of a test; the faults in ``long`` get the mark for long tests."""
    return [*faults, *(pytest.param(name, marks=pytest.mark.long) for name in long)]


def check_fault(place: World, name: str, fault: Callable[[Client], None]) -> None:
    """Inject a fault while two jobs run, start a third job, and check that each job has one claimed attempt."""
    pushes = [submit_push_job(place, f"{name}-{n}", WORK_S) for n in range(2)]
    for push in pushes:
        place.client.wait_event(push.job_id, "tool.call")
    fault(place.client)
    # A job that is submitted right after the fault must run too.
    late = submit_push_job(place, f"{name}-late", 0)
    for push in (*pushes, late):
        assert len([each for each in check_effects(place, push)["attempts"] if each["claimed_at"]]) == 1, name
