"""What ended of jobs, ever: counts for metrics that outlive the jobs themselves."""

from __future__ import annotations

from typing import Final

from shards.metrics.collector import collector as of_shards
from shards.metrics.totals import Source, fold

JOBS: Final = Source(
    "jobs",
    """
    SELECT status, count(*) FROM jobs_job
    WHERE finished_at > %(after)s::timestamptz AND finished_at <= %(until)s::timestamptz GROUP BY status
    """,
)
ATTEMPTS: Final = Source(
    "attempts",
    """
    SELECT state, count(*) FROM jobs_attempt
    WHERE ended_at > %(after)s::timestamptz AND ended_at <= %(until)s::timestamptz GROUP BY state
    """,
)
# What runners said of their agents last; it is settled when the attempt has ended.
USAGE: Final = Source(
    "usage",
    """
    SELECT figure, sum((usage->>figure)::float8) FROM jobs_attempt
        CROSS JOIN (VALUES ('turns'), ('input_tokens'), ('output_tokens'), ('cost_usd')) AS figures(figure)
    WHERE ended_at > %(after)s::timestamptz AND ended_at <= %(until)s::timestamptz AND usage->>figure IS NOT NULL
    GROUP BY figure
    """,
)


def fold_all() -> None:
    """Keep all counts of what has ended for good; before old jobs are removed."""
    for source in (JOBS, ATTEMPTS, USAGE, *of_shards.SOURCES):
        fold(source)
