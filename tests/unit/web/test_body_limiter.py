"""Bodies that an application receives behind the limiter, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from myctobot.errors import MyctobotError
from myctobot.web.body_limiter import BodyLimiter, declared_length
from myctobot.web.body_limits import BodyLimits
from myctobot.web.response import RawResponse

LIMIT = 10
CHUNKED = [(b"transfer-encoding", b"chunked")]

App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


def write_error(path: str, error: MyctobotError) -> RawResponse:
    return RawResponse(error.http_status, [], path.encode())


def piece(size: int, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


def has_method(method: str, path: str) -> bool:
    return method in ("GET", "OPTIONS", "POST")


class Exchange:
    """One request with the messages of its server, and the statuses that the server got."""

    def __init__(
        self, *messages: dict[str, Any], headers: list[tuple[bytes, bytes]] = CHUNKED, method: str = "POST"
    ) -> None:
        self._messages, self.received, self.statuses = list(messages), 0, list[int]()
        self._scope = {"type": "http", "method": method, "path": "/", "headers": headers}

    async def receive(self) -> dict[str, Any]:
        if not self._messages:
            await asyncio.Event().wait()
        self.received += 1
        return self._messages.pop(0)

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])

    def run(self, app: App, timeout_s: float = 60) -> list[int]:
        limiter = BodyLimiter(app, BodyLimits({"/": LIMIT}), timeout_s, write_error, has_method)
        asyncio.run(cast(App, limiter)(self._scope, self.receive, self.send))
        return self.statuses


async def reader(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, and answer 200 if it is complete."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            break
    await RawResponse(200, [], b"").send(send)


def test_a_body_at_the_limit_is_passed_on() -> None:
    assert Exchange(piece(4), piece(6, more=False)).run(reader) == [200]


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_a_method_without_a_body_is_refused_with_one(method: str) -> None:
    assert Exchange(headers=[(b"content-length", b"1")], method=method).run(reader) == [413]


@pytest.mark.parametrize("method", ["HEAD", "TRACE", "CONNECT", "INVENTED"])
def test_a_method_that_the_view_lacks_reaches_it_without_the_body(method: str) -> None:
    exchange = Exchange(piece(1000), headers=[(b"content-length", b"1000")], method=method)
    assert exchange.run(reader) == [200]
    assert exchange.received == 0


def test_a_longer_body_is_not_read_to_its_end() -> None:
    exchange = Exchange(piece(4), piece(7), piece(1000))
    assert exchange.run(reader) == [413]
    assert exchange.received == 2


def test_a_declared_length_is_refused_without_reading() -> None:
    exchange = Exchange(headers=[(b"content-length", b"11")])
    assert exchange.run(reader) == [413]
    assert exchange.received == 0


def test_a_declaration_that_is_too_small_gives_no_more_bytes() -> None:
    assert Exchange(piece(11, more=False), headers=[(b"content-length", b"3")]).run(reader) == [413]


def test_a_body_that_stops_arriving_ends_in_a_timeout() -> None:
    assert Exchange(piece(1)).run(reader, timeout_s=0.01) == [408]


def test_the_answer_to_a_disconnect_is_replaced() -> None:
    async def polite(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await RawResponse(400, [], b"").send(send)

    assert Exchange(piece(11)).run(polite) == [413]


def test_an_answer_that_has_begun_stays() -> None:
    async def hasty(scope: Any, receive: Any, send: Any) -> None:
        await RawResponse(200, [], b"").send(send)
        assert (await receive())["type"] == "http.disconnect"
        assert (await receive())["type"] == "http.disconnect"

    assert Exchange(piece(11)).run(hasty) == [200]


def test_time_after_the_body_is_not_limited() -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.1)
        await RawResponse(200, [], b"").send(send)

    assert Exchange(piece(1, more=False)).run(stream, timeout_s=0.02) == [200]


def test_a_request_without_a_body_reaches_the_application_unchanged() -> None:
    given: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        given.extend((receive, send))

    exchange = Exchange(headers=[])
    exchange.run(app)
    assert given == [exchange.receive, exchange.send]


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([(b"content-length", b"0")], 0),
        ([(b"host", b"x"), (b"content-length", b"12")], 12),
        ([(b"content-length", b"12"), (b"transfer-encoding", b"chunked")], None),
        ([(b"content-length", b"9" * 5000)], None),
        ([(b"content-length", b"-1")], None),
        ([(b"content-length", b"")], None),
    ],
)
def test_the_declared_length(headers: list[tuple[bytes, bytes]], length: int | None) -> None:
    assert declared_length(headers) == length
