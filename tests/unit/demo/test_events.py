from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from myctobot.demo.errors import DemoFailed
from myctobot.demo.events import follow, frames

Handler = Callable[[httpx.Request], httpx.Response]


def numbered(seq: int) -> bytes:
    return f"id: {seq}\nevent: log.line\ndata: {json.dumps({'seq': seq, 'kind': 'log.line'})}\n\n".encode()


END = b'event: end\ndata: {"kind": "end", "data": {"count": 3}}\n\n'


class Broken(httpx.SyncByteStream):
    """Sends some pieces, and then the connection breaks."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise httpx.ReadError("the connection broke")


def followed(handler: Handler) -> list[str]:
    with httpx.Client(base_url="http://stack", transport=httpx.MockTransport(handler)) as client:
        return [str(event.get("seq", event["kind"])) for event in follow(client, "/stream", pause=lambda seconds: None)]


def test_lines_become_events_and_comments_do_not() -> None:
    lines = ["retry: 1000", "", ": still here", "", "id: 7", "event: x", 'data: {"a":', "data: 1}", "", "data: cut off"]
    assert [(frame.id, frame.data) for frame in frames(lines)] == [("7", ['{"a":', "1}"])]


def test_a_broken_stream_goes_on_after_the_last_event_that_came() -> None:
    resumed: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        resumed.append(request.headers.get("Last-Event-ID"))
        if len(resumed) == 1:
            return httpx.Response(200, stream=Broken(numbered(1), numbered(2), b"id: 3\ndata: {"))
        return httpx.Response(200, content=numbered(3) + END)

    assert followed(handler) == ["1", "2", "3", "end"]
    assert resumed == [None, "2"]


def test_a_stream_that_ends_without_its_end_is_taken_up_again() -> None:
    answers = iter([numbered(1), numbered(2) + numbered(3) + END])
    assert followed(lambda request: httpx.Response(200, content=next(answers))) == ["1", "2", "3", "end"]


def test_a_server_that_restarts_is_waited_for() -> None:
    answers = iter([httpx.Response(503), httpx.Response(200, content=numbered(1) + END)])
    assert followed(lambda request: next(answers)) == ["1", "end"]


def test_a_stream_that_brings_nothing_any_more_is_given_up() -> None:
    with pytest.raises(DemoFailed, match="10 attempts"):
        followed(lambda request: httpx.Response(200, stream=Broken()))


def test_a_refusal_is_not_repeated() -> None:
    asked: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(1)
        return httpx.Response(404)

    with pytest.raises(DemoFailed, match="404"):
        followed(handler)
    assert len(asked) == 1
