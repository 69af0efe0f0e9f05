from __future__ import annotations

from tests.integration.shards.operations.conftest import maker, shard

__all__ = ["maker", "shard"]
