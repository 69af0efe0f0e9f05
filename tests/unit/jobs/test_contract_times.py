from __future__ import annotations

from myctobot.contract import jobs as contract


def test_a_runner_stops_its_agent_before_its_lease_ends_and_is_lost_after() -> None:
    assert contract.RENEW_EVERY_S < contract.SELF_STOP_S < contract.LEASE_S < contract.LOST_AFTER_S


def test_a_full_batch_and_the_largest_event_fit_in_a_request() -> None:
    assert contract.MAX_BATCH_BYTES + contract.MAX_EVENT_BYTES <= contract.MAX_REQUEST_BYTES
    assert contract.MAX_PROMPT_BYTES < contract.MAX_REQUEST_BYTES
