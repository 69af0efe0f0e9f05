from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from redis import Redis

from tests.integration.jobs.conftest import key, shard, shard_and_key, tenant

__all__ = ["key", "shard", "shard_and_key", "tenant"]


@pytest.fixture(autouse=True)
def broker() -> Iterator[Redis]:
    """Emptied; and nobody remembers what was read before."""
    from myctobot.metrics.views import exposition

    exposition.forget()
    with Redis.from_url(settings.REDIS_URL, decode_responses=True) as redis:
        redis.flushdb()
        yield redis
