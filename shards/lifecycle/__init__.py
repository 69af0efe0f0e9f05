"""States and transitions of shards."""
