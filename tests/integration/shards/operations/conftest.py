from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # Models need settings, whose environment is made after this file is loaded.
    from shards.models.shard import Shard

    from .support import LivelyProvider


@pytest.fixture
def maker(settings: Any) -> LivelyProvider:
    """The provider ``memory``, with shards inside."""
    from shards.providers import registry

    from .support import LivelyProvider

    path = f"{LivelyProvider.__module__}.{LivelyProvider.__name__}"
    settings.PROVIDERS = {**settings.PROVIDERS, "memory": path}
    settings.SHARD_READY_TIMEOUT_S = 1
    registry.provider.cache_clear()
    made = registry.provider("memory")
    assert isinstance(made, LivelyProvider)
    return made


@pytest.fixture
def shard(db: None, maker: LivelyProvider) -> Shard:
    from .support import new_shard

    return new_shard()
