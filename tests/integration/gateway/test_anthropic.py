from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from myctobot.gateway.grants import MemoryGrant, MemoryGrants
from myctobot.gateway.requests import MAX_BODY_BYTES, parse_messages
from myctobot.gateway.upstreams.anthropic import PIECE_BYTES, AnthropicUpstream, UpstreamLimits
from myctobot.gateway.upstreams.base import UpstreamCall
from tests.fixtures.fake_anthropic import DOCUMENT, EVENTS, STREAM, FakeAnthropic, streaming

from .conftest import KEY, TOKEN, ask, gateway_client, served

pytestmark = pytest.mark.anyio
ERROR = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}, "request_id": "req_up"}


@asynccontextmanager
async def passing_to(
    provider: FakeAnthropic, grants: MemoryGrants, token: str = TOKEN, limits: UpstreamLimits | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        served(provider) as url,
        gateway_client(AnthropicUpstream(url, limits), grants, token) as client,
    ):
        yield client


async def test_the_body_goes_on_byte_by_byte_with_the_tenants_key(grants: MemoryGrants) -> None:
    provider = FakeAnthropic()
    body = b'{ "model":"claude-m", "max_tokens":1,"messages":[{"role":"user","content":"\\u00e9"}], "new_field": {} }'
    async with passing_to(provider, grants) as client:
        response = await client.post("/v1/messages?beta=true&other=1", content=body)
    assert (response.status_code, response.content) == (200, DOCUMENT)
    [seen] = provider.seen
    assert (seen.path, seen.query, seen.body) == ("/v1/messages", "beta=true", body)
    assert seen.headers["x-api-key"] == KEY


async def test_only_the_allowed_headers_go_on(grants: MemoryGrants) -> None:
    provider = FakeAnthropic()
    headers = {
        "anthropic-version": "2024-01-01",
        "anthropic-beta": "claude-code-20250219,effort-2025-11-24",
        "authorization": f"Bearer {TOKEN}",
        "cookie": "session=canary",
        "x-forwarded-for": "10.0.0.1",
        "x-stainless-os": "Linux",
    }
    async with passing_to(provider, grants) as client:
        await client.post("/v1/messages", json=ask("hi"), headers=headers)
    sent = provider.seen[0].headers
    assert TOKEN not in str(sent)
    assert set(sent) == {
        *("host", "connection", "content-length", "user-agent", "accept-encoding"),
        *("anthropic-version", "anthropic-beta", "content-type", "accept", "x-api-key"),
    }
    assert (sent["anthropic-version"], sent["anthropic-beta"]) == (
        "2024-01-01",
        "claude-code-20250219,effort-2025-11-24",
    )


async def test_only_the_allowed_headers_come_back(grants: MemoryGrants) -> None:
    answered = {
        "content-type": "application/json",
        "request-id": "req_up",
        "retry-after": "3",
        "anthropic-ratelimit-requests-remaining": "9",
        "anthropic-organization-id": "org",
        "set-cookie": "provider=canary",
        "x-secret": "canary",
    }
    async with passing_to(FakeAnthropic(headers=answered), grants) as client:
        response = await client.post("/v1/messages", json=ask("hi"))
    assert response.headers["request-id"] == "req_up"
    assert response.headers["retry-after"] == "3"
    assert response.headers["anthropic-ratelimit-requests-remaining"] == "9"
    assert "canary" not in str(response.headers)
    assert "anthropic-organization-id" not in response.headers


async def test_a_cookie_of_one_answer_is_not_sent_with_the_next_request(grants: MemoryGrants) -> None:
    provider = FakeAnthropic(headers={"content-type": "application/json", "set-cookie": "a=b; Path=/"})
    async with passing_to(provider, grants) as client:
        for _ in range(2):
            await client.post("/v1/messages", json=ask("hi"))
    assert "cookie" not in provider.seen[1].headers


async def test_an_answer_that_comes_compressed_all_the_same_is_unpacked(grants: MemoryGrants) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    async with passing_to(FakeAnthropic(headers=headers, pieces=[gzip.compress(DOCUMENT)]), grants) as client:
        response = await client.post("/v1/messages", json=ask("hi"))
    assert response.content == DOCUMENT


async def test_count_tokens_is_passed_on(grants: MemoryGrants) -> None:
    provider = FakeAnthropic(pieces=[b'{"input_tokens": 12}'])
    request = {"model": "claude-m", "messages": [{"role": "user", "content": "hi"}]}
    async with passing_to(provider, grants) as client:
        response = await client.post("/v1/messages/count_tokens", json=request)
    assert response.json() == {"input_tokens": 12}
    assert provider.seen[0].path == "/v1/messages/count_tokens"


async def test_a_stream_arrives_while_the_provider_still_talks(grants: MemoryGrants) -> None:
    provider = streaming(pieces=STREAM[:3], then="wait")
    async with passing_to(provider, grants) as client:
        async with client.stream("POST", "/v1/messages", json=ask("hi", stream=True)) as response:
            assert response.headers["content-type"] == "text/event-stream"
            got = b""
            async for piece in response.aiter_raw():
                got += piece
                if got == b"".join(STREAM[:3]):
                    break
        async with asyncio.timeout(20):
            await provider.client_gone.wait()


async def test_a_caller_that_goes_before_the_answer_ends_the_call(grants: MemoryGrants) -> None:
    provider = FakeAnthropic(then="mute")
    async with passing_to(provider, grants) as client:
        calling = asyncio.create_task(client.post("/v1/messages", json=ask("hi")))
        async with asyncio.timeout(20):
            await provider.called.wait()
            calling.cancel()
            await provider.client_gone.wait()
    assert calling.cancelled()


def upstream_call(body: bytes) -> UpstreamCall:
    async def key() -> str | None:
        return KEY

    async def document() -> dict[str, Any]:
        return ask("hi")

    return UpstreamCall("messages", parse_messages(body), "req_1", key=key, document=document)


async def test_a_large_body_arrives_with_its_length(grants: MemoryGrants) -> None:
    provider, body = FakeAnthropic(), json.dumps(ask("x" * (MAX_BODY_BYTES - 1000))).encode()
    async with passing_to(provider, grants) as client:
        assert (await client.post("/v1/messages", content=body)).status_code == 200
    (seen,) = provider.seen
    assert seen.body == body
    assert seen.headers["content-length"] == str(len(body))
    assert "transfer-encoding" not in seen.headers


async def test_a_large_body_is_passed_on_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of one piece, each layer below would make a copy, and encryption would hold the event loop.
    sent = []

    class Recorder(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            sent.extend([len(piece) async for piece in request.stream])
            return httpx.Response(200, content=DOCUMENT)

    upstream = AnthropicUpstream("http://provider.example")
    monkeypatch.setattr(upstream, "_client", httpx.AsyncClient(transport=Recorder()))
    body = json.dumps(ask("x" * 3_000_000)).encode()
    async with upstream.respond(upstream_call(body)):
        pass
    assert (sum(sent), max(sent)) == (len(body), PIECE_BYTES)


async def test_a_call_that_is_left_before_its_answer_was_read_ends() -> None:
    provider = streaming(then="wait")
    call = upstream_call(json.dumps(ask("hi")).encode())
    async with served(provider) as url:
        upstream = AnthropicUpstream(url)
        async with upstream.respond(call) as kept:
            assert kept.streams
        async with asyncio.timeout(20):
            await provider.client_gone.wait()
        await upstream.close()


async def test_a_stream_that_breaks_off_ends_with_an_error_event(grants: MemoryGrants) -> None:
    provider = streaming(pieces=[*STREAM[:2], STREAM[2][:20]], then="break")
    async with passing_to(provider, grants) as client:
        response = await client.post("/v1/messages", json=ask("hi", stream=True))
    assert response.content.startswith(b"".join(STREAM[:2]))
    *_, kind, data = response.text.strip().splitlines()
    assert kind == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["type"] == "api_error"


def parse_events(stream: bytes) -> list[dict[str, Any]]:
    """Parse a stream whose events have one line of data each."""
    frames = [dict(line.split(b": ", 1) for line in frame.splitlines()) for frame in stream.split(b"\n\n")[:-1]]
    found = [json.loads(frame[b"data"]) for frame in frames]
    assert [event["type"].encode() for event in found] == [frame[b"event"] for frame in frames]
    return found


@pytest.mark.parametrize("then", ["break", "wait", "end"])
@pytest.mark.parametrize("half", [STREAM[2][:cut] for cut in (0, 4, 20, 30, 60)] + [STREAM[2][:-1]])
async def test_a_stream_that_is_cut_anywhere_has_only_whole_events(
    grants: MemoryGrants, then: str, half: bytes, call_lines: list[Any]
) -> None:
    provider = streaming(pieces=[*STREAM[:2], half], then=then)
    async with passing_to(provider, grants, limits=UpstreamLimits(read_s=0.2)) as client:
        response = await client.post("/v1/messages", json=ask("hi", stream=True))
    *whole, last = parse_events(response.content)
    assert whole == EVENTS[:2]
    expected = "timeout_error" if then == "wait" else "api_error"
    assert (last["type"], last["error"]["type"]) == ("error", expected)
    assert [line["outcome"] for line in call_lines if line["event"] == "gateway.call"] == [expected]


async def test_an_error_of_the_provider_within_a_stream_stays_the_last_event(grants: MemoryGrants) -> None:
    frame = b"event: error\ndata: " + json.dumps(ERROR).encode() + b"\n\n"
    async with passing_to(streaming(pieces=[STREAM[0], frame]), grants) as client:
        response = await client.post("/v1/messages", json=ask("hi", stream=True))
    assert response.content == STREAM[0] + frame


async def test_a_silent_stream_ends_with_a_timeout_event(grants: MemoryGrants) -> None:
    provider = streaming(pieces=STREAM[:2], then="wait")
    async with passing_to(provider, grants, limits=UpstreamLimits(read_s=0.2)) as client:
        response = await client.post("/v1/messages", json=ask("hi", stream=True))
    assert '"timeout_error"' in response.text


@pytest.mark.parametrize(
    ("provider", "status", "kind"),
    [
        (FakeAnthropic(status=429, pieces=[json.dumps(ERROR).encode()]), 429, "rate_limit_error"),
        (FakeAnthropic(status=529, pieces=[b"<html>overloaded</html>"]), 529, "overloaded_error"),
        (FakeAnthropic(status=418, pieces=[b"[]"]), 418, "api_error"),
        (FakeAnthropic(status=302, headers={"location": "/elsewhere"}), 502, "api_error"),
        (FakeAnthropic(pieces=[DOCUMENT[:10]], then="break"), 502, "api_error"),
        (FakeAnthropic(then="mute"), 504, "timeout_error"),
    ],
)
async def test_what_goes_wrong_behind_the_gateway_has_anthropics_shape(
    grants: MemoryGrants, provider: FakeAnthropic, status: int, kind: str
) -> None:
    async with passing_to(provider, grants, limits=UpstreamLimits(read_s=0.5)) as client:
        response = await client.post("/v1/messages", json=ask("hi"))
    assert response.status_code == status
    assert response.json()["type"] == "error"
    assert response.json()["error"]["type"] == kind
    assert response.headers["content-type"] == "application/json"
    assert len(provider.seen) == 1


async def test_a_provider_that_is_not_there_is_a_bad_gateway(grants: MemoryGrants) -> None:
    async with served(FakeAnthropic()) as url:
        pass
    async with gateway_client(AnthropicUpstream(url), grants) as client:
        response = await client.post("/v1/messages", json=ask("hi"))
    assert response.status_code == 502


async def test_more_calls_than_connections_are_an_overload(grants: MemoryGrants) -> None:
    provider = FakeAnthropic(then="mute")
    async with passing_to(provider, grants, limits=UpstreamLimits(connections=1, pool_s=0.1)) as client:
        first = asyncio.create_task(client.post("/v1/messages", json=ask("hi")))
        async with asyncio.timeout(20):
            await provider.called.wait()
        response = await client.post("/v1/messages", json=ask("hi"))
        first.cancel()
    assert (response.status_code, response.json()["error"]["type"]) == (529, "overloaded_error")


@pytest.mark.parametrize(
    ("key", "part"), [(None, "has no anthropic_api_key"), ("sk\nx-evil: 1", "characters"), ("schlüssel", "characters")]
)
async def test_a_job_without_a_valid_key_gets_an_error(key: str | None, part: str) -> None:
    provider = FakeAnthropic()
    grants = MemoryGrants({"token": MemoryGrant(1, "job_one", key=key)})
    async with passing_to(provider, grants, "token") as client:
        response = await client.post("/v1/messages", json=ask("hi"))
    assert response.status_code == 401
    assert part in response.json()["error"]["message"]
    assert not provider.seen


async def test_keys_tokens_and_prompts_are_neither_logged_nor_returned(
    grants: MemoryGrants, caplog: pytest.LogCaptureFixture
) -> None:
    echo = {"type": "error", "error": {"type": "authentication_error", "message": f"invalid x-api-key {KEY}"}}
    caplog.set_level(logging.DEBUG)
    async with passing_to(FakeAnthropic(status=401, pieces=[json.dumps(echo).encode()]), grants) as client:
        response = await client.post("/v1/messages", json=ask("prompt-canary"))
    assert response.status_code == 401
    assert KEY not in response.text
    lines = caplog.text + " ".join(str(record.__dict__) for record in caplog.records)
    assert not [canary for canary in (KEY, TOKEN, "prompt-canary") if canary in lines]


async def test_the_line_of_a_call_has_the_providers_usage(grants: MemoryGrants, call_lines: list[Any]) -> None:
    async with passing_to(streaming(), grants) as client:
        await client.post("/v1/messages", json=ask("hi", stream=True))
    [line] = call_lines
    assert (line["input_tokens"], line["output_tokens"], line["outcome"]) == (12, 11, "answered")
