"""Broker users of the shards."""
