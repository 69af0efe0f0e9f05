"""Job events as Server-Sent Events (the HTML standard's text/event-stream)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

import structlog

from jobs.models import Job
from jobs.streaming.access import WatchAccess, access_monitor
from jobs.streaming.batch import End
from jobs.streaming.hub import JobGone, ServerStops, hub

log = structlog.get_logger(__name__)

HEADERS = {
    # Buffering or rewriting by nginx or another proxy would delay events.
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


# A part of the first event, because some clients return an event without data for a field alone.
_RETRY_FIELD = b"retry: 1000\n"
_RESTART = b": the server restarts; connect again\n\n"


def has_end(job: Job, last_event_id: int) -> bool:
    """Tell whether a client with this id of its last event has got the end of the job."""
    return job.is_over and last_event_id >= End(job.next_seq - 1, job.status).sse_id


async def follow(job: Job, after: int, access: WatchAccess) -> AsyncIterator[bytes]:
    """Yield the job's events after number ``after`` as they come, and ``end`` when the job has ended.

    A stream that stops without ``end`` was cut. Its viewer connects again and then gets the reason.

    Args:
        job: the watched job.
        after: the last number that the viewer has; 0 for none.
        access: checked again while the stream is open.
    """
    yield _RETRY_FIELD
    stream = hub().follow(job.pk, job.public_id, after)
    with access_monitor().watching(access), suppress(JobGone):
        async with aclosing(stream) as news:  # type: ignore[type-var]  # a generator
            try:
                async for item in news:
                    if not access_monitor().is_valid(access):
                        log.info("stream.access_ended", job=job.public_id)
                        return
                    yield item.sse
            except ServerStops:
                yield _RESTART
