"""Celery worker of a shard, with its heartbeat and its runners."""
