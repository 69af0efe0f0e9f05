"""Provider for shards as processes."""
