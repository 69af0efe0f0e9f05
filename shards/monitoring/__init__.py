"""History, samples and alerts of shards."""
