"""Ids of jobs, numbers of attempts, and the names of files that follow from them."""

from __future__ import annotations

from typing import Any

import pytest

from myctobot.contract.names import MAX_ATTEMPT, attempt_name, is_attempt, parse_attempt_name
from myctobot.lib.ids import public_id
from tests.fixtures.malformed_messages import NO_ATTEMPTS

JOB = "job_0123456789abcdefghjk"


@pytest.mark.parametrize("number", [1, 10, MAX_ATTEMPT])
def test_names_of_attempts(number: int) -> None:
    for job_id in (JOB, public_id("job")):
        name = attempt_name(job_id, number)
        assert name == f"{job_id}.{number}"
        assert parse_attempt_name(name) == (job_id, number)


@pytest.mark.parametrize(("job_id", "number"), NO_ATTEMPTS)
def test_other_values_name_nothing(job_id: Any, number: Any) -> None:
    assert not is_attempt(job_id, number)
    with pytest.raises(ValueError, match="do not name an attempt"):
        attempt_name(job_id, number)


@pytest.mark.parametrize("name", ["", JOB, f"{JOB}.", f"{JOB}.01", f"{JOB}.1.2", f"{JOB}.1\n", f"../{JOB}.1"])
def test_other_texts_are_no_names(name: str) -> None:
    assert parse_attempt_name(name) is None
