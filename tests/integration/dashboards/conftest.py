from tests.integration.jobs.conftest import key, shard, shard_and_key, tenant

__all__ = ["key", "shard", "shard_and_key", "tenant"]
