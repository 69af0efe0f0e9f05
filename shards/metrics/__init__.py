"""Prometheus metrics of shards."""
