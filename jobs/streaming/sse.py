"""Follows a job by Server-Sent Events (the HTML standard's text/event-stream)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

import structlog

from jobs.models.job import Job
from jobs.streaming.access import Access, guards
from jobs.streaming.hub import JobGone, hub

log = structlog.get_logger(__name__)

HEADERS = {
    # Buffering in nginx, or any rewriting on the way, would hold events back.
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


async def follow(job: Job, after: int, access: Access) -> AsyncIterator[bytes]:
    """Yield the job's events after number ``after`` as they come, and ``end`` when it is over.

    A stream that ends without ``end`` was cut: its viewer asks again, and is told then why it may not watch.

    Args:
        job: whose events.
        after: the last number that the viewer has; 0 for none.
        access: checked again while the stream is open.
    """
    yield b"retry: 1000\n\n"
    stream = hub().follow(job.pk, job.public_id, after)
    with guards().watching(access), suppress(JobGone):
        async with aclosing(stream) as news:  # type: ignore[type-var]  # a generator
            async for item in news:
                if not guards().holds(access):
                    log.info("stream.access_ended", job=job.public_id)
                    return
                yield item.sse
