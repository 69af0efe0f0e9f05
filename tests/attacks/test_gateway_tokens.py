"""Attacks by an agent with its job's gateway token: huge bodies, many calls, foreign features, and calls that go on."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx
import pytest

from myctobot.gateway import job_calls, views
from myctobot.gateway.errors import BadRequest
from myctobot.gateway.grants import MemoryGrant, MemoryGrants
from myctobot.gateway.job_calls import JobCallLimits
from myctobot.gateway.policy import CallPolicy
from myctobot.gateway.requests import MAX_BODY_BYTES, ModelRequest, parse_conversation, parse_messages
from myctobot.gateway.upstreams.anthropic import AnthropicUpstream
from tests.fixtures.fake_anthropic import STREAM, FakeAnthropic, streaming
from tests.integration.gateway.conftest import KEY, TOKEN, ask, call_lines, gateway_client, served

pytestmark = pytest.mark.anyio
__all__ = ["call_lines"]
OTHER_TOKEN = "token-of-another-job"
# A busy machine may delay an answer, but an attack that succeeds waits longer.
ANSWER_S = 20
MB = 1024 * 1024


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _gateway_settings(settings: Any) -> None:
    from myctobot.settings import gateway

    settings.ROOT_URLCONF, settings.MIDDLEWARE = gateway.ROOT_URLCONF, gateway.MIDDLEWARE


@pytest.fixture
def grants() -> MemoryGrants:
    return MemoryGrants({TOKEN: MemoryGrant(1, "job_one", 2, KEY), OTHER_TOKEN: MemoryGrant(2, "job_two", 1, KEY)})


@contextmanager
def measured_memory() -> Iterator[list[int]]:
    """Append the largest memory that the context allocated, in bytes, to the list."""
    peaks: list[int] = []
    tracemalloc.start()
    try:
        yield peaks
    finally:
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


@asynccontextmanager
async def passing_to(provider: FakeAnthropic, grants: MemoryGrants, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with served(provider) as url, gateway_client(AnthropicUpstream(url), grants, **options) as client:
        yield client


@asynccontextmanager
async def begun_body(client: httpx.AsyncClient, token: str, length: int) -> AsyncIterator[asyncio.StreamReader]:
    """Send the headers of a call whose body does not come, and yield the connection."""
    port = client.base_url.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {token}\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    try:
        async with asyncio.timeout(ANSWER_S):
            yield reader
    finally:
        writer.close()


async def test_an_unknown_token_is_refused_before_its_body_is_read(grants: MemoryGrants) -> None:
    async with passing_to(FakeAnthropic(), grants) as client, begun_body(client, "unknown", 10 * MB) as reader:
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401")
    # The agent of an ended job would otherwise try again for minutes.
    assert b"x-should-retry: false" in head.lower()


async def test_a_refused_beta_costs_no_body(grants: MemoryGrants) -> None:
    async with passing_to(FakeAnthropic(), grants, policy=CallPolicy(models=("none",))) as client:
        # The header is checked before the body, so the error is not that about the model.
        answer = await client.post("/v1/messages", json=ask("hi"), headers={"anthropic-beta": "files-api-2025-04-14"})
    assert answer.status_code == 403
    assert answer.json()["error"]["message"].startswith("anthropic-beta: ")


async def test_bodies_have_a_limit(grants: MemoryGrants) -> None:
    async with passing_to(FakeAnthropic(), grants) as client, begun_body(client, TOKEN, MAX_BODY_BYTES + 1) as reader:
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    assert MAX_BODY_BYTES <= 32 * MB


async def test_the_bodies_of_one_job_share_a_limit(grants: MemoryGrants, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_calls, "MAX_JOB_BYTES", MB)
    provider = streaming(pieces=STREAM[:1], then="wait")
    body = json.dumps({**ask("hi", stream=True), "filler": "x" * (MB // 3)})
    async with passing_to(provider, grants) as client, AsyncExitStack() as stack:
        statuses = []
        for _ in range(3):
            response = await stack.enter_async_context(client.stream("POST", "/v1/messages", content=body))
            statuses.append(response.status_code)
    assert statuses == [200, 200, 429]


@pytest.mark.parametrize("item", [b"{}", b'{"role":"user","content":[]}', b'{"role":"user","content":[{},{},{},{}]}'])
async def test_a_body_of_many_small_objects_is_refused_before_they_exist(item: bytes) -> None:
    items = b",".join([item] * ((MAX_BODY_BYTES - 100) // (len(item) + 1)))
    body = b'{"model":"claude-test","max_tokens":1,"messages":[' + items + b"]}"
    with measured_memory() as peaks, suppress(BadRequest):
        parse_messages(body)
    assert peaks[0] < MB
    with pytest.raises(BadRequest, match="opening braces"):
        parse_messages(body)


@pytest.mark.parametrize("item", [b"0", b"[]", b'""'])
async def test_a_body_of_many_small_values_is_refused_before_they_exist(item: bytes) -> None:
    items = b",".join([item] * ((MAX_BODY_BYTES - 100) // (len(item) + 1)))
    body = b'{"model":"claude-test","max_tokens":1,"messages":[' + items + b"]}"
    with measured_memory() as peaks, pytest.raises(BadRequest, match=r"^messages\.0: must be an object"):
        parse_messages(body)
    assert peaks[0] < MB


async def test_the_model_is_measured_before_it_is_read() -> None:
    # With a character beyond the 16 bits, Python's text of the name would have four times its size.
    name = "\U0001f600" + "x" * (MAX_BODY_BYTES - MB)
    body = json.dumps({**ask("hi"), "model": name}, ensure_ascii=False).encode()
    with measured_memory() as peaks, pytest.raises(BadRequest, match=r"^model: "):
        parse_messages(body)
    assert peaks[0] < MB


@pytest.mark.parametrize(
    "fields", [{}, {"mcp_servers": []}, {"inputs": [[]] * 1_000_000, "tools": [{"name": "Bash", "in": [[]] * 500_000}]}]
)
@pytest.mark.parametrize("parse", [parse_messages, parse_conversation])
@pytest.mark.parametrize("before", [b"", b" "])
async def test_parsing_keeps_no_copy_of_a_body(
    parse: Callable[[bytes], object], fields: dict[str, Any], before: bytes
) -> None:
    text = "" if parse is parse_conversation else "x" * (MAX_BODY_BYTES - 10 * MB)
    body = before + json.dumps({**ask(text), **fields}).encode()
    with measured_memory() as peaks:
        parse(body)
    assert peaks[0] < MB


async def test_parsing_blocks_neither_the_process_nor_other_jobs(
    grants: MemoryGrants, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(body: bytes) -> ModelRequest:
        if b"SLOW" in body:
            begun.set()
            go_on.wait(ANSWER_S)
        return parse_messages(body)

    monkeypatch.setattr(views, "parse_messages", slow)
    async with passing_to(FakeAnthropic(), grants) as client:
        attack = [asyncio.create_task(client.post("/v1/messages", json=ask("SLOW"))) for _ in range(8)]
        try:
            await asyncio.to_thread(begun.wait, ANSWER_S)
            health = await client.get("/healthz")
            other = await client.post("/v1/messages", json=ask("hi"), headers={"x-api-key": OTHER_TOKEN})
            still_parsing = not any(call.done() for call in attack)
        finally:
            go_on.set()
        statuses = [response.status_code for response in await asyncio.gather(*attack)]
    assert (health.status_code, other.status_code, still_parsing) == (200, 200, True)
    assert statuses == [200] * 8


async def test_one_job_has_few_calls_at_the_same_time(grants: MemoryGrants) -> None:
    provider = streaming(pieces=STREAM[:1], then="wait")
    request = ask("hi", stream=True)
    async with passing_to(provider, grants, limits=JobCallLimits(concurrent=3)) as client, AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(client.stream("POST", "/v1/messages", json=request))
        refused = await client.post("/v1/messages", json=request)
        other = await stack.enter_async_context(
            client.stream("POST", "/v1/messages", json=request, headers={"x-api-key": OTHER_TOKEN})
        )
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert refused.headers["retry-after"] == "1"
    assert other.status_code == 200
    assert len(provider.seen) == 4


async def test_one_attempt_has_so_many_calls_in_total(grants: MemoryGrants) -> None:
    provider = FakeAnthropic()
    async with passing_to(provider, grants, limits=JobCallLimits(total=3)) as client:
        answers = [await client.post("/v1/messages", json=ask("hi")) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].headers["x-should-retry"] == "false"
    assert len(provider.seen) == 3


LINK = {"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/"}}


@pytest.mark.parametrize(
    ("fields", "headers", "named"),
    [
        ({"model": "another-model"}, {}, "model"),
        ({}, {"anthropic-beta": "claude-code-20250219,mcp-client-2025-04-04"}, "anthropic-beta"),
        ({"tools": [{"name": "Bash"}, {"type": "web_fetch_20250910", "name": "web_fetch"}]}, {}, "tools.1.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, {}, "tools.0.type"),
        ({"tools": [{"type": "code_execution_20250825", "name": "code"}]}, {}, "tools.0.type"),
        ({"mcp_servers": [{"type": "url", "url": "http://10.0.0.1/", "name": "x"}]}, {}, "mcp_servers"),
        ({"container": {"skills": []}}, {}, "container"),
        ({"messages": [{"role": "user", "content": [LINK]}]}, {}, "messages.0.content.0.source.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "file_1"}]}]},
            {},
            "messages.0.content.0.file_id",
        ),
        ({"system": [LINK]}, {}, "system.0.source.type"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_what_passes_the_egress_list_never_reaches_the_provider(
    grants: MemoryGrants, path: str, fields: dict[str, Any], headers: dict[str, str], named: str
) -> None:
    provider = FakeAnthropic()
    async with passing_to(provider, grants) as client:
        response = await client.post(path, json={**ask("hi"), **fields}, headers=headers)
    assert (response.status_code, len(provider.seen)) == (403, 0)
    error = response.json()["error"]
    assert error["type"] == "permission_error"
    assert error["message"].startswith(f"{named}: ")
    assert response.headers["x-should-retry"] == "false"


async def test_a_stream_ends_with_its_job(grants: MemoryGrants, call_lines: list[Any]) -> None:
    provider = streaming(pieces=STREAM[:3], then="wait")
    async with (
        passing_to(provider, grants, watch_interval_s=0.05) as client,
        client.stream("POST", "/v1/messages", json=ask("hi", stream=True)) as response,
        asyncio.timeout(ANSWER_S),
    ):
        pieces = response.aiter_bytes()
        received = await anext(pieces)
        grants.end("job_one")
        received += b"".join([piece async for piece in pieces])
        await provider.client_gone.wait()
    last = json.loads(received.rpartition(b"data: ")[2])
    assert last["error"]["type"] == "authentication_error"
    assert [line["outcome"] for line in call_lines if line["event"] == "gateway.call"] == ["grant_ended"]


async def test_a_call_without_an_answer_yet_ends_with_its_job(grants: MemoryGrants) -> None:
    provider = FakeAnthropic(then="mute")
    async with passing_to(provider, grants, watch_interval_s=0.05) as client, asyncio.timeout(ANSWER_S):
        calling = asyncio.create_task(client.post("/v1/messages", json=ask("hi")))
        await provider.called.wait()
        grants.end("job_one")
        response = await calling
        await provider.client_gone.wait()
    assert (response.status_code, response.json()["error"]["type"]) == (401, "authentication_error")
    assert response.headers["x-should-retry"] == "false"


async def test_a_slow_body_of_a_valid_token_is_given_up(grants: MemoryGrants) -> None:
    async with (
        passing_to(FakeAnthropic(), grants, body_timeout_s=0.1) as client,
        begun_body(client, TOKEN, MB) as reader,
    ):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")


async def test_a_body_that_does_not_come_ends_with_its_job(grants: MemoryGrants) -> None:
    async with (
        passing_to(FakeAnthropic(), grants, watch_interval_s=0.05) as client,
        begun_body(client, TOKEN, MB) as reader,
    ):
        grants.end("job_one")
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")


async def test_the_calls_of_other_jobs_continue(grants: MemoryGrants) -> None:
    provider = streaming(pieces=STREAM[:1], then="wait")
    async with passing_to(provider, grants, watch_interval_s=0.05) as client, AsyncExitStack() as stack:
        request = ask("hi", stream=True)
        headers = {"x-api-key": OTHER_TOKEN}
        other = await stack.enter_async_context(client.stream("POST", "/v1/messages", json=request, headers=headers))
        ended = await stack.enter_async_context(client.stream("POST", "/v1/messages", json=request))
        grants.end("job_one")
        async with asyncio.timeout(ANSWER_S):
            assert b"authentication_error" in b"".join([piece async for piece in ended.aiter_bytes()])
        assert await anext(other.aiter_bytes()) == STREAM[0]
