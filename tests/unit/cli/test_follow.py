"""Following: every event once and in order, whatever the connection does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import httpx
import pytest

from myctobot.cli.api import SILENCE_S
from myctobot.cli.errors import Refused, StreamLost
from myctobot.cli.follow import Follower
from tests.unit.cli.server import (
    JOB_ID,
    Handler,
    Told,
    api_of,
    broken,
    end,
    events,
    numbered,
    refusal,
    silent,
    stream,
)


class Time:
    """A clock that only the follower's own pauses move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Watched:
    """One follower, the connections that it made, and what came of them."""

    def __init__(self, answers: Iterable[httpx.Response | Exception] | Handler, **options: float) -> None:
        self.time, self.told = Time(), Told()
        self.requests: list[httpx.Request] = []
        self._answers = answers if callable(answers) else _in_turn(answers)
        self.seen: list[int | str] = []
        after = int(options.pop("after", 0))
        with api_of(self._answer, self.told) as api:
            follower = Follower(
                api, JOB_ID, self.told, after=after, clock=self.time.clock, pause=self.time.pause, **options
            )
            try:
                for event in follower.events():
                    self.seen.append(event.get("seq", event["kind"]))
            except (StreamLost, Refused) as error:
                self.error: Exception | None = error
            else:
                self.error = None

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answers(request)

    @property
    def resumed(self) -> list[str | None]:
        return [request.headers.get("Last-Event-ID") for request in self.requests]


def _in_turn(answers: Iterable[httpx.Response | Exception]) -> Handler:
    remaining = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(remaining)
        if isinstance(found, Exception):
            raise found
        return found

    return answer


WHOLE = [1, 2, 3, "end"]


def test_a_stream_is_followed_to_its_end() -> None:
    watched = Watched([stream(events(1, 2), b": still here\n\n", events(3), end(3))])
    assert (watched.seen, watched.error, watched.told) == (WHOLE, None, [])
    assert str(watched.requests[0].url).endswith(f"/api/v1/jobs/{JOB_ID}/stream")


@pytest.mark.parametrize(
    "first",
    [
        broken(events(1, 2)),
        broken(events(1, 2), b'id: 3\nevent: log.line\ndata: {"seq": 3, "ki'),
        silent(events(1, 2)),
        stream(events(1, 2)),
        stream(events(1, 2), b"id: 3\ndata: {}"),
    ],
    ids=["broken", "broken within an event", "silent", "ended without an end", "ended within an event"],
)
def test_a_stream_that_stops_goes_on_after_the_last_event_that_came(first: httpx.Response) -> None:
    watched = Watched([first, stream(events(3), end(3))])
    assert (watched.seen, watched.resumed) == (WHOLE, [None, "2"])
    [sentence] = watched.told
    assert "reconnecting behind event 2 in 0.5 s" in sentence


def test_an_event_that_comes_again_is_dropped() -> None:
    assert Watched([stream(events(1, 2, 2, 1, 2, 3), end(3))]).seen == WHOLE


def test_nothing_is_shown_behind_a_gap_and_what_is_missing_is_fetched() -> None:
    watched = Watched([stream(events(1, 3)), stream(events(2, 3), end(3))])
    assert (watched.seen, watched.resumed) == (WHOLE, [None, "1"])
    assert "number 2 was to come, and 3 came" in watched.told[0]


def test_a_mark_stands_for_what_was_dropped() -> None:
    mark = numbered(90, "log.dropped", first_seq=2, events=89, bytes=5, reason="bound")
    assert Watched([stream(events(1), mark, events(91), end(91))]).seen == [1, 90, 91, "end"]


def test_a_mark_that_begins_too_late_is_a_gap() -> None:
    mark = numbered(90, "log.dropped", first_seq=3, events=88, bytes=5, reason="bound")
    watched = Watched([stream(events(1), mark, end(90)), stream(events(2, 3), end(3))])
    assert (watched.seen, watched.resumed) == (WHOLE, [None, "1"])


def test_an_end_that_counts_more_than_came_is_not_believed() -> None:
    watched = Watched([stream(events(1, 2), end(3)), stream(events(3), end(3))])
    assert (watched.seen, watched.resumed) == (WHOLE, [None, "2"])


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_cannot_now_is_asked_again(status: int) -> None:
    watched = Watched([stream(events(1)), httpx.Response(status), stream(events(2, 3), end(3))])
    assert watched.seen == WHOLE
    assert f"status {status}; reconnecting behind event 1" in watched.told[1]


def test_a_server_that_is_away_is_waited_for_with_growing_pauses() -> None:
    away = [httpx.ConnectError("connection refused")] * 6
    watched = Watched([stream(events(1)), *away, stream(events(2, 3), end(3))])
    assert watched.seen == WHOLE
    assert watched.time.pauses == [0.5, 1, 2, 4, 5, 5, 5]


def test_a_new_event_makes_the_pauses_short_again() -> None:
    away = httpx.ConnectError("connection refused")
    watched = Watched([away, away, broken(events(1)), away, stream(events(2, 3), end(3))])
    assert watched.time.pauses == [0.5, 1, 0.5, 1]


@pytest.mark.parametrize(
    "never",
    [
        lambda request: httpx.Response(503),
        lambda request: stream(events(5)),
        lambda request: stream(end(7)),
        lambda request: httpx.Response(200, text="<p>Log in to the network</p>"),
    ],
    ids=["away", "always a gap", "an end that never fits", "something else answers"],
)
def test_it_gives_up_after_so_much_time_without_anything_new(never: Handler) -> None:
    watched = Watched(never, give_up_after_s=60.0)
    assert watched.seen == []
    assert isinstance(watched.error, StreamLost)
    assert "within 60 s" in str(watched.error)
    assert 50 <= watched.time.now <= 60


class Lasting(httpx.SyncByteStream):
    """A connection on which nothing but heartbeats come, or nothing at all until it is taken for dead."""

    def __init__(self, time: Time, seconds: float, breaks: Exception | None = None) -> None:
        self._time, self._seconds, self._breaks = time, seconds, breaks

    def __iter__(self) -> Iterator[bytes]:
        yield b"retry: 1000\n\n"
        self._time.now += self._seconds
        if self._breaks:
            raise self._breaks


def followed_for_long(time: Time, connections: Iterable[httpx.SyncByteStream]) -> list[str]:
    """Follow over many connections with little patience, until one brings the end."""
    open_streams = iter(connections)

    def answer(request: httpx.Request) -> httpx.Response:
        if (found := next(open_streams, None)) is None:
            return stream(end(0))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=found)

    with api_of(answer) as api:
        follower = Follower(api, JOB_ID, Told(), give_up_after_s=90, clock=time.clock, pause=time.pause)
        return [event["kind"] for event in follower.events()]


def test_a_job_that_waits_for_an_hour_over_connections_of_a_minute_is_not_given_up() -> None:
    time = Time()
    assert followed_for_long(time, [Lasting(time, 60) for _ in range(60)]) == ["end"]
    assert time.now > 3600


def test_connections_on_which_nothing_comes_at_all_are_given_up() -> None:
    time = Time()
    dead = [Lasting(time, SILENCE_S, httpx.ReadTimeout("timed out")) for _ in range(60)]
    with pytest.raises(StreamLost, match="fell silent"):
        followed_for_long(time, dead)
    assert time.now < 180


@pytest.mark.parametrize(
    ("status", "code"), [(401, "authentication_failed"), (403, "permission_denied"), (404, "unknown_job")]
)
def test_a_refusal_is_final_and_says_why(status: int, code: str) -> None:
    watched = Watched([broken(events(1)), refusal(status, code, "This is not for you.")])
    assert watched.seen == [1]
    assert isinstance(watched.error, Refused)
    assert f"This is not for you. ({code})" in str(watched.error)


def test_it_begins_behind_the_number_that_is_known() -> None:
    watched = Watched([stream(events(3), end(3))], after=2)
    assert (watched.seen, watched.resumed) == ([3, "end"], ["2"])


def test_forty_seconds_of_silence_are_waited_for() -> None:
    watched = Watched([stream(end(0))])
    assert watched.requests[0].extensions["timeout"]["read"] == 40
