"""Following of a stream: every event once and in order, with any connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import httpx
import pytest

from myctobot.cli.api import SILENCE_S
from myctobot.cli.errors import RequestRefused, StreamLost
from myctobot.cli.follow import Follower
from tests.unit.cli.server import (
    JOB_ID,
    Handler,
    Notifications,
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
    """Clock that only advances in the follower's own pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class FollowedStream:
    """One follower, with its connections and the events that it yielded."""

    def __init__(self, answers: Iterable[httpx.Response | Exception] | Handler, **options: float) -> None:
        self.time, self.notifications = Time(), Notifications()
        self.requests: list[httpx.Request] = []
        self._answers = answers if callable(answers) else _in_order(answers)
        self.seen: list[int | str] = []
        after = int(options.pop("after", 0))
        with api_of(self._answer, self.notifications) as api:
            follower = Follower(
                api, JOB_ID, self.notifications, after=after, clock=self.time.clock, pause=self.time.pause, **options
            )
            try:
                for event in follower.events():
                    self.seen.append(event.get("seq", event["kind"]))
            except (StreamLost, RequestRefused) as error:
                self.error: Exception | None = error
            else:
                self.error = None

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answers(request)

    @property
    def resumed(self) -> list[str | None]:
        return [request.headers.get("Last-Event-ID") for request in self.requests]


def _in_order(answers: Iterable[httpx.Response | Exception]) -> Handler:
    remaining = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(remaining)
        if isinstance(found, Exception):
            raise found
        return found

    return answer


WHOLE = [1, 2, 3, "end"]


def test_a_stream_is_followed_to_its_end() -> None:
    watched = FollowedStream([stream(events(1, 2), b": still here\n\n", events(3), end(3))])
    assert (watched.seen, watched.error, watched.notifications) == (WHOLE, None, [])
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
def test_a_broken_stream_is_resumed_after_the_last_event(first: httpx.Response) -> None:
    watched = FollowedStream([first, stream(events(3), end(3))])
    assert (watched.seen, watched.resumed) == (WHOLE, [None, "2"])
    [sentence] = watched.notifications
    assert "reconnecting after event 2 in 0.5 s" in sentence


def test_a_repeated_event_is_dropped() -> None:
    assert FollowedStream([stream(events(1, 2, 2, 1, 2, 3), end(3))]).seen == WHOLE


def test_no_event_is_shown_after_a_gap_and_the_missing_ones_are_fetched() -> None:
    watched = FollowedStream([stream(events(1, 3)), stream(events(2, 3), end(3))])
    assert (watched.seen, watched.resumed) == (WHOLE, [None, "1"])
    assert "event 2 is missing: event 3 followed 1" in watched.notifications[0]


def test_a_marker_replaces_dropped_events() -> None:
    marker = numbered(90, "log.dropped", first_seq=2, events=89, bytes=5, reason="bound")
    assert FollowedStream([stream(events(1), marker, events(91), end(91))]).seen == [1, 90, 91, "end"]


def test_a_marker_that_begins_too_late_is_a_gap() -> None:
    marker = numbered(90, "log.dropped", first_seq=3, events=88, bytes=5, reason="bound")
    watched = FollowedStream([stream(events(1), marker, end(90)), stream(events(2, 3), end(3))])
    assert (watched.seen, watched.resumed) == (WHOLE, [None, "1"])


def test_an_end_that_counts_more_events_causes_a_reconnection() -> None:
    watched = FollowedStream([stream(events(1, 2), end(3)), stream(events(3), end(3))])
    assert (watched.seen, watched.resumed) == (WHOLE, [None, "2"])


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_with_a_temporary_error_is_tried_again(status: int) -> None:
    watched = FollowedStream([stream(events(1)), httpx.Response(status), stream(events(2, 3), end(3))])
    assert watched.seen == WHOLE
    assert f"status {status}; reconnecting after event 1" in watched.notifications[1]


def test_pauses_grow_while_the_server_is_unreachable() -> None:
    away = [httpx.ConnectError("connection refused")] * 6
    watched = FollowedStream([stream(events(1)), *away, stream(events(2, 3), end(3))])
    assert watched.seen == WHOLE
    assert watched.time.pauses == [0.5, 1, 2, 4, 5, 5, 5]


def test_a_new_event_makes_the_pauses_short_again() -> None:
    away = httpx.ConnectError("connection refused")
    watched = FollowedStream([away, away, broken(events(1)), away, stream(events(2, 3), end(3))])
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
def test_it_gives_up_after_the_limit_without_a_new_event(never: Handler) -> None:
    watched = FollowedStream(never, give_up_after_s=60.0)
    assert watched.seen == []
    assert isinstance(watched.error, StreamLost)
    assert "within 60 s" in str(watched.error)
    assert 50 <= watched.time.now <= 60


class LongConnection(httpx.SyncByteStream):
    """Connection without events, which ends or breaks after some time."""

    def __init__(self, time: Time, seconds: float, breaks: Exception | None = None) -> None:
        self._time, self._seconds, self._breaks = time, seconds, breaks

    def __iter__(self) -> Iterator[bytes]:
        yield b"retry: 1000\n\n"
        self._time.now += self._seconds
        if self._breaks:
            raise self._breaks


def follow_connections(time: Time, connections: Iterable[httpx.SyncByteStream]) -> list[str]:
    """Follow connections with a short limit until one of them has the end; return the kinds of all events."""
    open_streams = iter(connections)

    def answer(request: httpx.Request) -> httpx.Response:
        if (found := next(open_streams, None)) is None:
            return stream(end(0))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=found)

    with api_of(answer) as api:
        follower = Follower(api, JOB_ID, Notifications(), give_up_after_s=90, clock=time.clock, pause=time.pause)
        return [event["kind"] for event in follower.events()]


def test_good_connections_without_events_are_not_given_up() -> None:
    time = Time()
    assert follow_connections(time, [LongConnection(time, 60) for _ in range(60)]) == ["end"]
    assert time.now > 3600


def test_dead_connections_are_given_up() -> None:
    time = Time()
    dead = [LongConnection(time, SILENCE_S, httpx.ReadTimeout("timed out")) for _ in range(60)]
    with pytest.raises(StreamLost, match="sent nothing for too long"):
        follow_connections(time, dead)
    assert time.now < 180


@pytest.mark.parametrize(
    ("status", "code"), [(401, "authentication_failed"), (403, "permission_denied"), (404, "unknown_job")]
)
def test_a_refusal_is_final_and_says_why(status: int, code: str) -> None:
    watched = FollowedStream([broken(events(1)), refusal(status, code, "This is not for you.")])
    assert watched.seen == [1]
    assert isinstance(watched.error, RequestRefused)
    assert f"This is not for you. ({code})" in str(watched.error)


def test_it_begins_after_the_known_number() -> None:
    watched = FollowedStream([stream(events(3), end(3))], after=2)
    assert (watched.seen, watched.resumed) == ([3, "end"], ["2"])


def test_a_connection_may_be_silent_for_forty_seconds() -> None:
    watched = FollowedStream([stream(end(0))])
    assert watched.requests[0].extensions["timeout"]["read"] == 40
