"""Fixtures of the attacks on logins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # These need settings, whose environment is made after this file is loaded.
    from myctobot.accounts.limits import LoginLimiter
    from tests.fixtures.hashers import HasherState


@pytest.fixture
def hasher(settings: Any, monkeypatch: pytest.MonkeyPatch) -> HasherState:
    """Use the cheap hasher, and return its record."""
    from tests.fixtures.hashers import PATH, GatedHasher, HasherState

    settings.PASSWORD_HASHERS = [PATH]
    monkeypatch.setattr(GatedHasher, "state", HasherState())
    return GatedHasher.state


@pytest.fixture
def limiter(settings: Any) -> Iterator[LoginLimiter]:
    """Return the limiter of a new process with an empty Redis."""
    from myctobot.accounts import backend
    from myctobot.accounts.counts import redis_counts

    redis_counts(settings.REDIS_URL).reset()
    cached = backend.login_limiter
    cached.cache_clear()
    yield cached()
    cached.cache_clear()
