"""Follower of a job's stream, which resumes a broken stream after the last event."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx

from myctobot.cli.api import LONGEST_PAUSE_S, SILENCE_S, Api, Notify, error_phrase
from myctobot.cli.errors import ServerUnreachable, StreamLost
from myctobot.cli.sequence import SequenceGap, check_end, number_after
from myctobot.contract.jobs import EventKind

GIVE_UP_AFTER_S: Final = 600.0
_FIRST_PAUSE_S: Final = 0.5
# A connection of this length counts as good, even without events.
_GOOD_CONNECTION_S: Final = 10.0


class _Broken(Exception):
    """Connection is broken; the message says why."""


class Follower:
    """Reader of one job's stream.

    Args:
        api: client of the API.
        job_id: job to follow.
        notify: called with a sentence about each broken connection.
        after: number of the last known event; 0 for none.
        give_up_after_s: limit of the time without a new event and without a good connection.
        clock: source of seconds, of which only differences matter.
        pause: called with the seconds to wait before another connection.
    """

    def __init__(
        self,
        api: Api,
        job_id: str,
        notify: Notify,
        *,
        after: int = 0,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.last = after
        self._api = api
        self._job_id = job_id
        self._notify = notify
        self._give_up_after_s = give_up_after_s
        self._clock = clock
        self._pause = pause
        self._last_progress_at = clock()
        self._pause_s = _FIRST_PAUSE_S

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events after ``last``, each once and in order, and then the ``end`` event.

        Raises:
            RequestRefused: the caller may not read the stream, or no longer.
            StreamLost: the stream broke and could not be resumed in time.
        """
        self._last_progress_at = self._clock()
        while True:
            try:
                for event in self._read_connection():
                    self._record_progress()
                    yield event
                    if event["kind"] == EventKind.END:
                        return
            except _Broken as error:
                self._pause_before_retry(str(error))

    def _read_connection(self) -> Iterator[dict[str, Any]]:
        """Yield the events of one connection, without repeated events and without events after a gap.

        Raises:
            _Broken: the connection could not be opened, ended before the job, or had a gap.
        """
        opened_at: float | None = None
        try:
            with self._api.stream(self._job_id, self.last) as source:
                opened_at = self._clock()
                for frame in source.iter_sse():
                    # A ``retry`` field of the SSE standard has no data.
                    if not frame.data:
                        continue
                    event = _parse_event(frame.data)
                    if event["kind"] == EventKind.END:
                        check_end(event, self.last)
                        yield event
                        return
                    number = number_after(event, self.last)
                    if number is not None:
                        self.last = number
                        yield event
        except (SequenceGap, ServerUnreachable) as error:
            raise _Broken(error_phrase(error)) from error
        except httpx.RequestError as error:
            self._record_good_connection(opened_at, silent_s=SILENCE_S if isinstance(error, httpx.ReadTimeout) else 0)
            raise _Broken(error_phrase(error)) from error
        self._record_good_connection(opened_at)
        raise _Broken("the stream ended before the job")

    def _record_good_connection(self, opened_at: float | None, silent_s: float = 0) -> None:
        """Count a connection that lasted for a while as progress."""
        if opened_at is not None and self._clock() - opened_at - silent_s >= _GOOD_CONNECTION_S:
            self._record_progress()

    def _record_progress(self) -> None:
        self._last_progress_at = self._clock()
        self._pause_s = _FIRST_PAUSE_S

    def _pause_before_retry(self, problem: str) -> None:
        if self._clock() + self._pause_s - self._last_progress_at > self._give_up_after_s:
            raise StreamLost(
                f"The stream was lost: {problem}. It could not be resumed within {self._give_up_after_s:g} s."
            )
        position = f" after event {self.last}" if self.last else ""
        self._notify(f"{problem}; reconnecting{position} in {self._pause_s:g} s")
        self._pause(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


def _parse_event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError as error:
        raise SequenceGap("an event is not JSON") from error
    if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
        raise SequenceGap("an event has an unknown format")
    return event
