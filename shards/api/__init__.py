"""REST API of shards for operators."""
