"""The Django project around shards, jobs and workers."""
