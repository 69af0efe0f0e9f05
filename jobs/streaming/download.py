"""Download of a job's whole log, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator

from jobs.streaming.reader import read_batches


async def download(job_pk: int) -> AsyncIterator[str]:
    """Yield the job's stored events as JSON lines, oldest first.

    Args:
        job_pk: the job's internal key.
    """
    after = 0
    while page := await read_batches(job_pk, after):
        for batch in page:
            yield "\n".join(batch.lines) + "\n"
        after = page[-1].last_seq
