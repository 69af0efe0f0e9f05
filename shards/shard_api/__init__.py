"""API that shards call."""
