"""Shards: the containers that run jobs."""
