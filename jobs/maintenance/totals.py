"""Totals of ended jobs and attempts, which metrics keep after the jobs are removed."""

from __future__ import annotations

from typing import Final

from shards.metrics import collector as of_shards
from shards.metrics.totals import CounterSource, accumulate

JOBS: Final = CounterSource(
    "jobs",
    """
    SELECT status, count(*) FROM jobs_job
    WHERE finished_at > %(after)s::timestamptz AND finished_at <= %(until)s::timestamptz GROUP BY status
    """,
)
ATTEMPTS: Final = CounterSource(
    "attempts",
    """
    SELECT state, count(*) FROM jobs_attempt
    WHERE ended_at > %(after)s::timestamptz AND ended_at <= %(until)s::timestamptz GROUP BY state
    """,
)
# Latest figures that runners reported; they are final when the attempt has ended.
USAGE: Final = CounterSource(
    "usage",
    """
    SELECT figure, sum((usage->>figure)::float8) FROM jobs_attempt
        CROSS JOIN (VALUES ('turns'), ('input_tokens'), ('output_tokens'), ('cost_usd')) AS figures(figure)
    WHERE ended_at > %(after)s::timestamptz AND ended_at <= %(until)s::timestamptz AND usage->>figure IS NOT NULL
    GROUP BY figure
    """,
)


def accumulate_all() -> None:
    """Add everything that has ended to the stored totals; call it before old jobs are removed."""
    for source in (JOBS, ATTEMPTS, USAGE, *of_shards.SOURCES):
        accumulate(source)
