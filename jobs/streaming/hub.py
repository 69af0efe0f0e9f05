"""The hub: whom this process shows which job, over one channel of the layer and one subscription a job.

Viewers have a place and nothing else. What is new comes over the channel layer once a process and is encoded once
(``batch``); it stays in a window that all viewers of the job share (``window``). A viewer whose place is not in the
window, because it has just come, fell behind, or a hint was lost, reads from PostgreSQL (``source``). After three
silent seconds the hub looks there for all jobs at once. So every viewer gets 1..N, once each and in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from django.db import Error as DatabaseError

from jobs.streaming.batch import Batch, End, Heartbeat
from jobs.streaming.feed import Feed
from jobs.streaming.reader import read_states
from jobs.streaming.subscription import Ear

log = structlog.get_logger(__name__)

SILENT_AFTER_S = 3.0
# Without a subscription nothing is announced.
_UNSUBSCRIBED_LOOK_S = 1.0
_ROUND_S = 0.5
HEARTBEAT_S = 15.0
# A page that should be there and is not: the database is away, or drops an old log at this moment.
_READ_AGAIN_S = 0.5
# Looks in a row that found what no hint had brought, before the layer counts as deaf.
_DEAF_AFTER = 3


class JobGone(Exception):
    """The job was deleted while somebody watched it."""


class Hub:
    """All that is watched in this process's event loop."""

    def __init__(self) -> None:
        self._feeds: dict[int, Feed] = {}
        self._by_id: dict[str, Feed] = {}
        self._ear: Ear | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def watched(self) -> int:
        """How many jobs have a viewer."""
        return len(self._feeds)

    async def follow(
        self, job_pk: int, job_id: str, after: int, heartbeat_s: float = HEARTBEAT_S
    ) -> AsyncIterator[Batch | End | Heartbeat]:
        """Yield a job's events after a number as they come; the end, last, when it is over.

        Args:
            job_pk: the job's internal key.
            job_id: its public id.
            after: the last number that the viewer has; 0 for none.
            heartbeat_s: seconds without news before a heartbeat.

        Raises:
            JobGone: it is not there any more.
        """
        feed = self._enter(job_pk, job_id)
        try:
            while True:
                if feed.gone:
                    raise JobGone
                if feed.ready and (batch := feed.window.after(after)):
                    after = batch.last_seq
                    yield batch
                elif feed.ready and after < feed.window.last_seq:
                    for batch in await self._page(feed, after):
                        after = batch.last_seq
                        yield batch
                elif feed.end:
                    yield feed.end
                    return
                elif not await feed.changed(heartbeat_s):
                    yield Heartbeat()
        finally:
            self._leave(feed)

    @staticmethod
    async def _page(feed: Feed, after: int) -> list[Batch]:
        page = await feed.page(after)
        if not page:
            await asyncio.sleep(_READ_AGAIN_S)
        return page

    def _enter(self, job_pk: int, job_id: str) -> Feed:
        if self._ear is None:
            self._ear = Ear(self._take)
            self._looking = asyncio.create_task(self._look())
        feed = self._feeds.get(job_pk)
        if feed is None:
            feed = self._feeds[job_pk] = self._by_id[job_id] = Feed(job_pk, job_id, self._ear)
        feed.viewers += 1
        return feed

    def _take(self, hint: dict[str, Any]) -> None:
        # The id is sealed in the hint: what was overheard in one group and played into another changes nothing there.
        if feed := self._by_id.get(hint["job"]):
            feed.take(hint)

    def _leave(self, feed: Feed) -> None:
        feed.viewers -= 1
        if feed.viewers:
            return
        del self._feeds[feed.job_pk], self._by_id[feed.job_id]
        ear = None
        if not self._feeds:
            ear, self._ear = self._ear, None
            if self._looking:
                self._looking.cancel()
        closing = asyncio.create_task(_close(feed, ear))
        # The loop alone would not keep it alive.
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    # --- The look into PostgreSQL ----------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_ROUND_S)
            due = [feed for feed in self._feeds.values() if self._is_due(feed)]
            if not due:
                continue
            try:
                states = await read_states(feed.job_pk for feed in due)
            except DatabaseError as error:
                log.warning("stream.look_failed", jobs=len(due), error=str(error))
                continue
            for feed in due:
                feed.learn(states.get(feed.job_pk))
            if self._ear and any(feed.missed >= _DEAF_AFTER for feed in due):
                log.warning("stream.layer_is_deaf", jobs=len(self._feeds))
                await self._ear.listen_anew()

    def _is_due(self, feed: Feed) -> bool:
        heard = self._ear is not None and self._ear.hears(feed.job_id)
        wait_s = SILENT_AFTER_S if heard and feed.ready else _UNSUBSCRIBED_LOOK_S
        return time.monotonic() - feed.heard_at >= wait_s


async def _close(feed: Feed, ear: Ear | None) -> None:
    await feed.close()
    if ear:
        await ear.close()


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _hubs.get(loop)
    if found is None:
        found = _hubs[loop] = Hub()
    return found
