"""Tables of jobs, attempts, events and fair-share clocks."""

from jobs.models.attempt import Attempt
from jobs.models.event_batch import EventBatch
from jobs.models.fair_share import FairShareClocks
from jobs.models.job import USAGE_FIELDS, Job, Priority, default_retry_on, new_job_id

__all__ = [
    "USAGE_FIELDS",
    "Attempt",
    "EventBatch",
    "FairShareClocks",
    "Job",
    "Priority",
    "default_retry_on",
    "new_job_id",
]
