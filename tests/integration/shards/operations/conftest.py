from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # Models need settings, whose environment is set after this file is loaded.
    from shards.models import Shard
    from tests.factories.operations import LivelyProvider


@pytest.fixture
def maker(settings: Any) -> LivelyProvider:
    """Provider ``memory`` whose containers run shards."""
    from shards.providers import registry
    from tests.factories.operations import LivelyProvider

    path = f"{LivelyProvider.__module__}.{LivelyProvider.__name__}"
    settings.PROVIDERS = {**settings.PROVIDERS, "memory": path}
    settings.SHARD_READY_TIMEOUT_S = 1
    registry.provider.cache_clear()
    made = registry.provider("memory")
    assert isinstance(made, LivelyProvider)
    return made


@pytest.fixture
def shard(db: None, maker: LivelyProvider) -> Shard:
    from tests.factories.operations import new_shard

    return new_shard()
