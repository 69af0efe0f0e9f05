"""Health of shards."""
