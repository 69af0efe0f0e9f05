"""Hub: serves all viewers of a process over one channel of the layer, with one subscription for each watched job.

A viewer only has a position. New events arrive over the channel layer once for each process, are encoded once
(``batch``) and stay in a window that all viewers of the job share (``window``). A viewer reads from PostgreSQL
(``reader``) when its position is not in the window, because it has just come, is slow, or a notification was lost.
After three seconds without a notification the hub reads the state of all such jobs in one query. So each viewer gets
events 1..N exactly once and in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from django.db import Error as DatabaseError

from jobs.streaming.batch import Batch, End, StreamHeartbeat
from jobs.streaming.feed import Feed
from jobs.streaming.reader import read_states
from jobs.streaming.subscription import Subscription
from myctobot.lib.shutdown import shutdown_notice

log = structlog.get_logger(__name__)

SILENT_AFTER_S = 3.0
# Interval of reads while a job has no subscription.
_UNSUBSCRIBED_POLL_S = 1.0
_CHECK_S = 0.5
HEARTBEAT_S = 15.0
# Pause after a page that should exist was not read: the database is away or is just dropping an old log.
_RETRY_PAGE_S = 0.5
# Number of consecutive reads with unannounced events after which the layer is considered not to receive.
_RECONNECT_AFTER = 3


class JobGone(Exception):
    """The job was deleted while it was watched."""


class ServerStops(Exception):
    """The process is about to end; the viewer connects again."""


class Hub:
    """Registry of the watched jobs of one event loop."""

    def __init__(self) -> None:
        self._feeds: dict[int, Feed] = {}
        self._by_id: dict[str, Feed] = {}
        self._subscription: Subscription | None = None
        self._polling: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._stops = False
        shutdown_notice.register(self.stop)

    def stop(self) -> None:
        """End the streams of all viewers, who connect again."""
        self._stops = True
        for feed in self._feeds.values():
            feed.wake_viewers()

    @property
    def watched(self) -> int:
        """Return the number of jobs that have a viewer."""
        return len(self._feeds)

    async def follow(
        self, job_pk: int, job_id: str, after: int, heartbeat_s: float = HEARTBEAT_S
    ) -> AsyncIterator[Batch | End | StreamHeartbeat]:
        """Yield a job's events after a number as they come, and finally its end.

        Args:
            job_pk: the job's internal key.
            job_id: its public id.
            after: the last number that the viewer has; 0 for none.
            heartbeat_s: seconds without events after which a heartbeat is yielded.

        Raises:
            JobGone: the job was deleted.
            ServerStops: this process is about to end.
        """
        feed = self._enter(job_pk, job_id)
        try:
            while True:
                if self._stops:
                    raise ServerStops
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
                    yield StreamHeartbeat()
        finally:
            self._leave(feed)

    @staticmethod
    async def _page(feed: Feed, after: int) -> list[Batch]:
        page = await feed.page(after)
        if not page:
            await asyncio.sleep(_RETRY_PAGE_S)
        return page

    def _enter(self, job_pk: int, job_id: str) -> Feed:
        if self._subscription is None:
            self._subscription = Subscription(self._on_notification)
            self._polling = asyncio.create_task(self._poll())
        feed = self._feeds.get(job_pk)
        if feed is None:
            feed = self._feeds[job_pk] = self._by_id[job_id] = Feed(job_pk, job_id, self._subscription)
        feed.viewers += 1
        return feed

    def _on_notification(self, notification: dict[str, Any]) -> None:
        # Read the job's id from the encrypted message, so that a message replayed into another group has no effect.
        if feed := self._by_id.get(notification["job"]):
            feed.on_notification(notification)

    def _leave(self, feed: Feed) -> None:
        feed.viewers -= 1
        if feed.viewers:
            return
        del self._feeds[feed.job_pk], self._by_id[feed.job_id]
        subscription = None
        if not self._feeds:
            subscription, self._subscription = self._subscription, None
            if self._polling:
                self._polling.cancel()
        closing = asyncio.create_task(_close(feed, subscription))
        # Keep a reference, because the event loop holds tasks only weakly.
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    # --- Reads from PostgreSQL -------------------------------------------------------------------------

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            due = [feed for feed in self._feeds.values() if self._is_due(feed)]
            if not due:
                continue
            try:
                states = await read_states(feed.job_pk for feed in due)
            except DatabaseError as error:
                log.warning("stream.state_not_read", jobs=len(due), error=str(error))
                continue
            for feed in due:
                feed.apply_state(states.get(feed.job_pk))
            if self._subscription and any(feed.missed >= _RECONNECT_AFTER for feed in due):
                log.warning("stream.layer_not_receiving", jobs=len(self._feeds))
                await self._subscription.reconnect()

    def _is_due(self, feed: Feed) -> bool:
        is_active = self._subscription is not None and self._subscription.is_active(feed.job_id)
        wait_s = SILENT_AFTER_S if is_active and feed.ready else _UNSUBSCRIBED_POLL_S
        return time.monotonic() - feed.updated_at >= wait_s


async def _close(feed: Feed, subscription: Subscription | None) -> None:
    await feed.close()
    if subscription:
        await subscription.close()


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """Return the hub of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _hubs.get(loop)
    if found is None:
        found = _hubs[loop] = Hub()
    return found
