"""The layer in front of the views, with applications and clients that behave in any way."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from myctobot.errors import MyctobotError
from myctobot.web import call_limiter
from myctobot.web.call_limiter import MAX_COMPLETE_BYTES, CallLimiter
from myctobot.web.call_limits import Account, AccountLimits, CallLimits, CallSource
from myctobot.web.response import RawResponse

pytestmark = pytest.mark.anyio

ONE = AccountLimits("key", per_minute=100, concurrent=1, waiting=1, streams=1, held_bytes=1000)
LIMITS = CallLimits(
    key=ONE,
    tenant=replace(ONE, name="tenant", concurrent=5, waiting=5),
    address=replace(ONE, name="address"),
    strangers=replace(ONE, name="strangers", concurrent=5, waiting=5, streams=5, is_own=False),
    concurrent=10,
    wait_s=30,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def write_error(path: str, error: MyctobotError) -> RawResponse:
    return RawResponse(error.http_status, [], json.dumps({"code": error.code, "message": error.message}).encode())


class Finder:
    """Finds callers whose key starts with ``k``, and counts its searches."""

    def __init__(self) -> None:
        self.searches, self.cache, self.answers = 0, dict[str, CallSource](), asyncio.Event()
        self.answers.set()

    def credentials_of(self, scope: Any) -> str | None:
        return next((value.decode() for name, value in scope["headers"] if name == b"authorization"), None)

    def known(self, credentials: str) -> CallSource | None:
        return self.cache.get(credentials)

    async def find(self, credentials: str) -> CallSource | None:
        self.searches += 1
        await self.answers.wait()
        if not credentials.startswith("k"):
            return None
        found = CallSource(Account(credentials, LIMITS.key), Account("tenant", LIMITS.tenant))
        self.cache[credentials] = found
        return found


@dataclass
class Client:
    """Client of one call."""

    key: str = ""
    path: str = "/api/v1/jobs"
    host: str = "10.0.0.1"
    kind: str = "http"

    def __post_init__(self) -> None:
        self.sent: list[Any] = []
        self.leaves, self.reads, self.gets = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.reads.set()
        self._messages: list[Any] = [{"type": "http.request", "body": b"{}", "more_body": False}]
        if self.kind == "websocket":
            self._messages = [{"type": "websocket.connect"}]

    async def receive(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        await self.leaves.wait()
        return {"type": f"{self.kind}.disconnect"}

    async def send(self, message: Any) -> None:
        self.gets.set()
        await self.reads.wait()
        self.sent.append(message)

    def call(self, limiter: CallLimiter) -> asyncio.Task[None]:
        headers = [(b"authorization", self.key.encode())] if self.key else []
        scope = {"type": self.kind, "path": self.path, "method": "GET", "headers": headers, "client": (self.host, 1)}
        return asyncio.create_task(limiter(scope, self.receive, self.send))

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


class View:
    """Application whose answers wait for ``goes_on``."""

    def __init__(self, size: int | None = 2) -> None:
        self.size, self.running, self.most, self.cut = size, 0, 0, 0
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert await receive() in (
            {"type": "http.request", "body": b"{}", "more_body": False},
            {"type": "websocket.connect"},
        )
        self.running += 1
        self.most = max(self.most, self.running)
        self.begun.set()
        waits = {asyncio.ensure_future(receive()), asyncio.ensure_future(self.goes_on.wait())}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self.cut += not self.goes_on.is_set()
        length = [] if self.size is None else [(b"content-length", str(self.size).encode())]
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": length})
            await send({"type": "http.response.body", "body": b"o", "more_body": True})
            await send({"type": "http.response.body", "body": b"k", "more_body": False})
        self.running -= 1


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(50):
        await asyncio.sleep(0)


def limited(
    view: Callable[..., Awaitable[None]], finder: Finder | None = None, limits: CallLimits = LIMITS
) -> CallLimiter:
    streams = re.compile("/stream")
    return CallLimiter(view, limits, write_error, finder=finder or Finder(), streams=streams)


async def test_an_answer_has_the_limits_in_its_headers() -> None:
    view, client = View(), Client("k1")
    view.goes_on.set()
    await client.call(limited(view))
    assert (client.status, b"".join(message["body"] for message in client.sent[1:])) == (200, b"ok")
    assert client.headers[b"ratelimit"] == b'"key";r=99;t=1, "tenant";r=99;t=1'
    assert client.headers[b"ratelimit-policy"].startswith(b'"key";q=100;w=60, ')


async def test_calls_of_one_key_wait_and_then_are_refused() -> None:
    view = View()
    limiter, clients = limited(view), [Client("k1") for _ in range(3)]
    calls = [client.call(limiter) for client in clients]
    await settle()
    assert (view.running, clients[2].status) == (1, 429)
    assert clients[2].headers[b"retry-after"] == b"1"
    assert json.loads(clients[2].sent[1]["body"])["code"] == "too_many_calls"
    view.goes_on.set()
    await asyncio.gather(*calls)
    assert [client.status for client in clients] == [200, 200, 429]
    assert view.most == 1


async def test_a_call_whose_turn_does_not_come_is_refused() -> None:
    view = View()
    limiter = limited(view, limits=replace(LIMITS, wait_s=0.01))
    first, second = Client("k1"), Client("k1")
    call = first.call(limiter)
    await view.begun.wait()
    await second.call(limiter)
    assert second.status == 429
    view.goes_on.set()
    await call


async def test_a_client_that_leaves_keeps_its_turn_until_the_view_ends() -> None:
    view = View()
    limiter, gone, other = limited(view), Client("k1"), Client("k1")
    calls = [gone.call(limiter)]
    await view.begun.wait()
    gone.leaves.set()
    calls.append(other.call(limiter))
    await settle()
    assert (view.running, view.cut, other.sent) == (1, 0, [])
    view.goes_on.set()
    await asyncio.gather(*calls)
    assert (other.status, view.most) == (200, 1)


async def test_a_client_that_leaves_while_it_waits_gives_its_place_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_limiter, "UNWATCHED_S", 0.01)
    view = View()
    limiter, first, gone, third = limited(view), Client("k1"), Client("k1"), Client("k1")
    calls = [first.call(limiter)]
    await view.begun.wait()
    calls.append(gone.call(limiter))
    await settle()
    gone.leaves.set()
    await calls[1]
    assert gone.sent == []
    calls.append(third.call(limiter))
    view.goes_on.set()
    await asyncio.gather(*calls)
    assert third.status == 200


async def test_a_client_that_does_not_read_holds_no_turn() -> None:
    view = View()
    view.goes_on.set()
    limiter, lazy, other = limited(view), Client("k1"), Client("k1")
    lazy.reads.clear()
    call = lazy.call(limiter)
    await lazy.gets.wait()
    assert view.running == 0
    await other.call(limiter)
    assert other.status == 200
    lazy.reads.set()
    await call


async def test_unread_answers_of_a_key_are_bounded() -> None:
    view = View()
    view.goes_on.set()
    limits = replace(LIMITS, key=replace(ONE, held_bytes=3))
    finder = Finder()
    finder.cache["k1"] = CallSource(Account("k1", limits.key), Account("tenant", LIMITS.tenant))
    limiter, lazy, other = limited(view, finder, limits), Client("k1"), Client("k1")
    lazy.reads.clear()
    call = lazy.call(limiter)
    await lazy.gets.wait()
    await other.call(limiter)
    assert (other.status, "has not read" in json.loads(other.sent[1]["body"])["message"]) == (429, True)
    lazy.reads.set()
    await call


@pytest.mark.parametrize("size", [None, MAX_COMPLETE_BYTES + 1])
async def test_a_streamed_answer_ends_the_turn_and_hears_of_a_disconnect(size: int | None) -> None:
    heard = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        length = [] if size is None else [(b"Content-Length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        assert (await receive())["type"] == "http.disconnect"
        heard.set()

    limiter, viewer, other = limited(stream), Client("k1", path="/stream"), Client("k1", path="/stream")
    call = viewer.call(limiter)
    await viewer.gets.wait()
    await other.call(limiter)
    assert (viewer.status, other.status) == (200, 429)
    assert "open streams" in json.loads(other.sent[1]["body"])["message"]
    simple = Client("k1")
    simple.leaves.set()
    await simple.call(limiter)
    assert simple.status == 200
    viewer.leaves.set()
    await call
    assert heard.is_set()


async def test_a_refused_websocket_is_closed_with_a_reason() -> None:
    view = View()
    limiter = limited(view)
    first, second = Client("k1", kind="websocket"), Client("k1", kind="websocket")
    call = first.call(limiter)
    await settle()
    await second.call(limiter)
    assert [message["type"] for message in second.sent] == ["websocket.accept", "websocket.close"]
    assert second.sent[1]["code"] == 1013
    view.goes_on.set()
    await call


async def test_unknown_keys_share_the_limits_of_their_address() -> None:
    view = View()
    limiter = limited(view)
    clients = [Client(key) for key in ("wrong", "other", "")] + [Client("wrong", host="10.0.0.2"), Client("k1")]
    calls = []
    for client in clients:
        calls.append(client.call(limiter))
        await settle()
    assert view.running == 3
    assert clients[2].status == 429
    assert clients[2].headers[b"ratelimit"] == b'"address";r=98;t=2'
    view.goes_on.set()
    await asyncio.gather(*calls)
    assert [client.status for client in clients] == [200, 200, 429, 200, 200]


async def test_all_strangers_together_have_a_limit_that_shows_no_numbers() -> None:
    limits = replace(LIMITS, strangers=replace(LIMITS.strangers, per_minute=1))
    view = View()
    view.goes_on.set()
    limiter, first, second = limited(view, limits=limits), Client(), Client(host="10.0.0.2")
    await first.call(limiter)
    await second.call(limiter)
    assert (first.status, second.status) == (200, 429)
    assert json.loads(second.sent[1]["body"])["message"].startswith("Callers without a valid key")
    assert b"strangers" not in second.headers[b"ratelimit"]


async def test_calls_with_one_new_key_share_a_search() -> None:
    view, finder = View(), Finder()
    view.goes_on.set()
    finder.answers.clear()
    limiter, clients = limited(view, finder), [Client("k1") for _ in range(2)]
    calls = [client.call(limiter) for client in clients]
    await settle()
    finder.answers.set()
    await asyncio.gather(*calls)
    assert finder.searches == 1
    assert [client.status for client in clients] == [200, 200]


async def test_an_address_has_few_searches_at_once() -> None:
    finder = Finder()
    finder.answers.clear()
    limiter, clients = limited(View(), finder), [Client(f"k{number}") for number in range(3)]
    calls = [client.call(limiter) for client in clients]
    await settle()
    assert (finder.searches, clients[2].status) == (2, 429)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_view_that_fails_ends_its_turn() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError

    limiter = limited(fails)
    for _ in range(5):
        with pytest.raises(ValueError):
            await Client("k1").call(limiter)
