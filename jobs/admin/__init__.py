"""Admin pages of jobs."""

from jobs.admin import jobs, routing_preview

__all__ = ["jobs", "routing_preview"]
