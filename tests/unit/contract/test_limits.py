from __future__ import annotations

from myctobot.contract import limits


def test_a_runner_stops_before_its_lease_ends_and_is_lost_afterwards() -> None:
    assert limits.RENEW_EVERY_S < limits.SELF_STOP_S < limits.LEASE_S < limits.LOST_AFTER_S


def test_a_full_batch_and_the_largest_event_fit_in_a_request() -> None:
    assert limits.MAX_BATCH_BYTES + limits.MAX_EVENT_BYTES <= limits.MAX_REQUEST_BYTES
    assert limits.MAX_PROMPT_BYTES < limits.MAX_REQUEST_BYTES
