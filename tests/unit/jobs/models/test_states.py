from __future__ import annotations

import pytest

from jobs.models.states import ALLOWED, LIVE_ATTEMPTS, AttemptState
from myctobot.contract.jobs import TERMINAL, JobStatus


@pytest.mark.parametrize("status", JobStatus)
def test_every_status_has_transitions(status: JobStatus) -> None:
    assert status in ALLOWED
    assert status not in ALLOWED[status]


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_terminal_states_have_no_transitions(status: JobStatus) -> None:
    assert ALLOWED[status] == frozenset()


def test_every_status_is_reachable_and_can_end() -> None:
    assert set().union(*ALLOWED.values()) == set(JobStatus)
    assert all(ALLOWED[status] & TERMINAL for status in set(JobStatus) - TERMINAL)


def test_only_a_running_job_completes() -> None:
    assert [status for status in JobStatus if JobStatus.COMPLETED in ALLOWED[status]] == [JobStatus.RUNNING]


def test_live_attempts_are_those_that_may_still_change() -> None:
    assert {AttemptState.SENT, AttemptState.RUNNING} == LIVE_ATTEMPTS
