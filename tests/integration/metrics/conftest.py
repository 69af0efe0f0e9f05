from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from redis import Redis


@pytest.fixture(autouse=True)
def broker() -> Iterator[Redis]:
    """Give an empty broker."""
    with Redis.from_url(settings.REDIS_URL, decode_responses=True) as redis:
        redis.flushdb()
        yield redis
