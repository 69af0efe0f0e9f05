"""Tables of jobs, attempts, events, kept work and fair-share clocks."""

from jobs.models.attempt import Attempt
from jobs.models.event_batch import EventBatch
from jobs.models.fair_share import FairShareClocks
from jobs.models.job import USAGE_FIELDS, Job, Priority, default_retry_on, new_job_id
from jobs.models.kept_work import KeptWork, KeptWorkPart

__all__ = [
    "USAGE_FIELDS",
    "Attempt",
    "EventBatch",
    "FairShareClocks",
    "Job",
    "KeptWork",
    "KeptWorkPart",
    "Priority",
    "default_retry_on",
    "new_job_id",
]
