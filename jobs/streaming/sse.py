"""Follows a job by Server-Sent Events (the HTML standard's text/event-stream).

A viewer has a cursor. It joins the job's group first and reads from PostgreSQL then, so nothing falls
between; a hint only wakes it sooner than its own look once a second. So a lost hint costs a second and
no event, and every viewer sees 1..N once each, in order.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection

from jobs.event_log import read_events
from jobs.models import Job
from jobs.streaming.notify import channel_layer, group_name

_LOOK_EVERY_S = 1.0
# Proxies end connections that are silent for a minute or less.
_COMMENT_EVERY_S = 15.0
_PAGE = 200


def frame(event: dict[str, Any]) -> str:
    """One event on the wire; ``id`` is its number, so a browser resumes by Last-Event-ID."""
    number = f"id: {event['seq']}\n" if "seq" in event else ""
    return f"{number}event: {event['kind']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n"


def _read(job_pk: int, after: int) -> tuple[list[dict[str, Any]], Job]:
    try:
        # The status is read before the events: a job seen as ended has all its events stored by then.
        job = Job.objects.only("status", "next_seq", "public_id").get(pk=job_pk)
        return read_events(job_pk, after, _PAGE), job
    finally:
        # Back to the pool: a viewer that waits for hours must not hold a connection.
        connection.close()


async def follow(job_pk: int, public_id: str, after: int) -> AsyncIterator[str]:
    """Yield the job's events after number ``after`` as they come, and ``end`` when it is over.

    Args:
        job_pk: the job's internal key.
        public_id: of the same job.
        after: the last number that the viewer has; 0 for none.
    """
    layer = channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group_name(public_id), channel)
    hint = asyncio.ensure_future(layer.receive(channel))
    try:
        yield "retry: 1000\n\n"
        last_write = time.monotonic()
        while True:
            events, job = await sync_to_async(_read)(job_pk, after)
            for event in events:
                yield frame(event)
            if events:
                after, last_write = events[-1]["seq"], time.monotonic()
                continue
            if job.is_over:
                yield frame({"kind": "end", "data": {"count": job.next_seq - 1, "status": job.status}})
                return
            if time.monotonic() - last_write > _COMMENT_EVERY_S:
                yield ": still here\n\n"
                last_write = time.monotonic()
            # One wait goes on until a hint comes: the layer takes a cancelled one for the viewer's end.
            done, _ = await asyncio.wait({hint}, timeout=_LOOK_EVERY_S)
            if done:
                hint = asyncio.ensure_future(layer.receive(channel))
    finally:
        await layer.group_discard(group_name(public_id), channel)
        # Only this lets go of the channel.
        hint.cancel()
        await asyncio.wait({hint})
