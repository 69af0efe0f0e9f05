from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shards.health import SILENT_AFTER, why_not_healthy

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
JUST_NOW = NOW - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("is_active", "state", "heard", "expected"),
    [
        (True, "ready", JUST_NOW, None),
        (True, "ready", NOW - SILENT_AFTER, None),
        (True, "ready", NOW + timedelta(seconds=5), None),
        (True, "ready", NOW - SILENT_AFTER - timedelta(seconds=1), "silent since 03:03:49 UTC"),
        (True, "ready", None, "never heard of"),
        (True, "requested", None, "never heard of"),
        (True, "draining", JUST_NOW, "draining"),
        (True, "stopped", JUST_NOW, "stopped"),
        (True, "a state that is new", JUST_NOW, "a state that is new"),
        (False, "ready", JUST_NOW, "switched off"),
        (False, "draining", None, "switched off"),
    ],
)
def test_why_a_shard_takes_no_job(is_active: bool, state: str, heard: datetime | None, expected: str | None) -> None:
    assert why_not_healthy(is_active=is_active, state=state, last_heartbeat_at=heard, now=NOW) == expected
