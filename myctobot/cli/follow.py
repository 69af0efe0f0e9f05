"""Follows a job's stream, and takes a broken one up again where it broke."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx

from myctobot.cli.api import LONGEST_PAUSE_S, SILENCE_S, Api, Tell, describe
from myctobot.cli.errors import StreamLost, Unreachable
from myctobot.cli.sequence import Gap, check_end, number_after
from myctobot.contract.jobs import EventKind

GIVE_UP_AFTER_S: Final = 600.0
_FIRST_PAUSE_S: Final = 0.5
# A connection that held this long was a good one, even if the job had nothing to say.
_GOOD_CONNECTION_S: Final = 10.0


class _Broken(Exception):
    """The connection is of no use any more; the message says why."""


class Follower:
    """One viewer of one job.

    Args:
        api: where the job is.
        job_id: of the job.
        tell: hears of broken connections, for the person who waits.
        after: the last number that is known already; 0 for none.
        give_up_after_s: how long it may go without anything new and without a good connection.
        clock: seconds, of which only differences count.
        pause: waits so many seconds before another connection.
    """

    def __init__(
        self,
        api: Api,
        job_id: str,
        tell: Tell,
        *,
        after: int = 0,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.last = after
        self._api = api
        self._job_id = job_id
        self._tell = tell
        self._give_up_after_s = give_up_after_s
        self._clock = clock
        self._pause = pause
        self._fruitful_at = clock()
        self._pause_s = _FIRST_PAUSE_S

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events behind ``last``, each once and in order, and ``end`` after the last one.

        Raises:
            Refused: the stream is not for the caller, or not any more.
            StreamLost: it broke, and could not be taken up again in time.
        """
        self._fruitful_at = self._clock()
        while True:
            try:
                for event in self._connection():
                    self._fruitful()
                    yield event
                    if event["kind"] == EventKind.END:
                        return
            except _Broken as error:
                self._wait(str(error))

    def _connection(self) -> Iterator[dict[str, Any]]:
        """Yield what one connection brings, checked: nothing twice and nothing behind a gap.

        Raises:
            _Broken: it ended before the job did, it could not be made, or it has a gap.
        """
        opened_at: float | None = None
        try:
            with self._api.stream(self._job_id, self.last) as source:
                opened_at = self._clock()
                for frame in source.iter_sse():
                    # The standard's ``retry`` comes without data.
                    if not frame.data:
                        continue
                    event = _parsed(frame.data)
                    if event["kind"] == EventKind.END:
                        check_end(event, self.last)
                        yield event
                        return
                    number = number_after(event, self.last)
                    if number is not None:
                        self.last = number
                        yield event
        except (Gap, Unreachable) as error:
            raise _Broken(describe(error)) from error
        except httpx.RequestError as error:
            self._judge(opened_at, silent_s=SILENCE_S if isinstance(error, httpx.ReadTimeout) else 0)
            raise _Broken(describe(error)) from error
        self._judge(opened_at)
        raise _Broken("the stream ended before the job did")

    def _judge(self, opened_at: float | None, silent_s: float = 0) -> None:
        """Count a connection that held for a while as a good one."""
        if opened_at is not None and self._clock() - opened_at - silent_s >= _GOOD_CONNECTION_S:
            self._fruitful()

    def _fruitful(self) -> None:
        self._fruitful_at = self._clock()
        self._pause_s = _FIRST_PAUSE_S

    def _wait(self, problem: str) -> None:
        if self._clock() + self._pause_s - self._fruitful_at > self._give_up_after_s:
            raise StreamLost(
                f"The stream was lost: {problem}. It could not be taken up again within {self._give_up_after_s:g} s."
            )
        behind = f" behind event {self.last}" if self.last else ""
        self._tell(f"{problem}; reconnecting{behind} in {self._pause_s:g} s")
        self._pause(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


def _parsed(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError as error:
        raise Gap("an event that is no JSON came") from error
    if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
        raise Gap("something that is no event came")
    return event
