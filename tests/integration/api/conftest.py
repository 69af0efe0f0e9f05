from __future__ import annotations

import pytest

from tests.integration.jobs.conftest import key, shard, shard_and_key, tenant

__all__ = ["key", "shard", "shard_and_key", "tenant"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
