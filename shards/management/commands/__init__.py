"""Management commands of shards."""
