"""Background threads of the application within the process of the tests."""

from __future__ import annotations

import threading

import pytest

from myctobot.lib.repeating_thread import RepeatingThread


def is_started(name: str) -> bool:
    # The thread waits for its next step until the process ends.
    RepeatingThread(name, lambda: None, 3600.0).start()
    return name in {thread.name for thread in threading.enumerate()}


@pytest.mark.django_db
def test_a_test_with_a_database_starts_none() -> None:
    assert not is_started("probe-with-database")


def test_a_test_without_one_may_start_them() -> None:
    assert is_started("probe-without-database")
