from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.db import OperationalError

from myctobot.gateway.grants import GatewayGrant, MemoryGrants
from myctobot.gateway.upstreams.base import UpstreamCall, UpstreamResponse
from myctobot.gateway.upstreams.scripted.script_files import load_scripts
from myctobot.gateway.upstreams.scripted.upstream import ScriptedUpstream
from myctobot.web.body_limits import BodyLimits

from .conftest import SCRIPTS, TOKEN, ask, gateway_client

pytestmark = pytest.mark.anyio


def read_events(text: str) -> list[dict[str, Any]]:
    parts = [part.split("\n") for part in text.strip().split("\n\n")]
    events: list[dict[str, Any]] = [json.loads(data.removeprefix("data: ")) for _, data in parts]
    assert [line.removeprefix("event: ") for line, _ in parts] == [event["type"] for event in events]
    return events


async def test_a_message_comes_whole(scripted: ScriptedUpstream, grants: MemoryGrants) -> None:
    async with gateway_client(scripted, grants) as client:
        response = await client.post("/v1/messages", json=ask("RUN: ls -l", tools=("Bash",)))
    message = response.json()
    assert response.status_code == 200
    assert (message["role"], message["model"], message["stop_reason"]) == ("assistant", "claude-test", "tool_use")
    assert [block["type"] for block in message["content"]] == ["text", "tool_use"]
    assert message["content"][1]["input"]["command"] == "ls -l"


async def test_a_message_comes_as_a_stream_of_the_same_content(
    scripted: ScriptedUpstream, grants: MemoryGrants
) -> None:
    request = ask("RUN: echo 'a long enough command to come in several pieces' é", tools=("Bash",))
    async with gateway_client(scripted, grants) as client:
        whole = (await client.post("/v1/messages", json=request)).json()
        response = await client.post("/v1/messages", json={**request, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = read_events(response.text)
    assert [events[0]["type"], events[1]["type"], events[-1]["type"]] == ["message_start", "ping", "message_stop"]
    assert events[0]["message"]["id"] == whole["id"]
    parts = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(part.get("text", "") for part in parts) == whole["content"][0]["text"]
    inputs = "".join(part.get("partial_json", "") for part in parts)
    assert json.loads(inputs) == whole["content"][1]["input"]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


async def test_tokens_are_counted_roughly(scripted: ScriptedUpstream, grants: MemoryGrants) -> None:
    request = {"model": "claude-test", "messages": [{"role": "user", "content": "x" * 400}]}
    async with gateway_client(scripted, grants) as client:
        response = await client.post("/v1/messages/count_tokens", json=request)
    assert 100 <= response.json()["input_tokens"] <= 150


@pytest.mark.parametrize(
    "headers",
    [{"x-api-key": TOKEN}, {"authorization": f"Bearer {TOKEN}"}, {"authorization": f"bearer  {TOKEN}"}],
)
async def test_the_token_may_stand_in_either_header(
    scripted: ScriptedUpstream, grants: MemoryGrants, headers: dict[str, str]
) -> None:
    async with gateway_client(scripted, grants, token=None) as client:
        response = await client.post("/v1/messages", json=ask("THINK AND TALK"), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-api-key": "unknown"}, {"x-api-key": "x" * 600}, {"authorization": f"Basic {TOKEN}"}],
)
async def test_without_a_live_token_nothing_is_answered(
    scripted: ScriptedUpstream, grants: MemoryGrants, headers: dict[str, str]
) -> None:
    async with gateway_client(scripted, grants, token=None) as client:
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            response = await client.post(path, content=b"not even JSON", headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["type"] == "authentication_error"


async def test_the_token_ends_with_its_job(scripted: ScriptedUpstream, grants: MemoryGrants) -> None:
    async with gateway_client(scripted, grants) as client:
        before = await client.post("/v1/messages", json=ask("THINK AND TALK"))
        grants.end("job_one")
        after = await client.post("/v1/messages", json=ask("THINK AND TALK"))
    assert (before.status_code, after.status_code) == (200, 401)


async def test_an_error_has_anthropics_shape_and_a_request_id(scripted: ScriptedUpstream, grants: MemoryGrants) -> None:
    async with gateway_client(scripted, grants) as client:
        response = await client.post("/v1/messages", json={"model": "m"})
    body = response.json()
    assert response.status_code == 400
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith("messages:")
    assert body["request_id"] == response.headers["request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/", 404, "not_found_error"),
        ("HEAD", "/", 404, None),
        ("POST", "/v1/complete", 404, "not_found_error"),
        ("POST", "/v1/messages/", 404, "not_found_error"),
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("GET", "/%0d%0aforged", 404, "not_found_error"),
    ],
)
async def test_anything_else_is_refused_politely(
    scripted: ScriptedUpstream, grants: MemoryGrants, method: str, path: str, status: int, kind: str | None
) -> None:
    async with gateway_client(scripted, grants) as client:
        response = await client.request(method, path)
    assert response.status_code == status
    assert kind is None or response.json()["error"]["type"] == kind


async def test_health_needs_no_token(scripted: ScriptedUpstream, grants: MemoryGrants) -> None:
    async with gateway_client(scripted, grants, token=None) as client:
        response = await client.get("/healthz")
        head = await client.head("/healthz")
        refused = await client.post("/healthz")
    assert response.json() == {"status": "ok", "upstream": "scripted"}
    assert (head.status_code, head.content) == (200, b"")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd, gzip"])
async def test_a_compressed_body_is_refused_by_name(
    scripted: ScriptedUpstream, grants: MemoryGrants, encoding: str
) -> None:
    body = gzip.compress(json.dumps(ask("hi")).encode())
    async with gateway_client(scripted, grants) as client:
        response = await client.post("/v1/messages", content=body, headers={"content-encoding": encoding})
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(f"Content-Encoding: '{encoding}' is not accepted")


async def test_an_encoding_that_changes_nothing_is_accepted(scripted: ScriptedUpstream, grants: MemoryGrants) -> None:
    async with gateway_client(scripted, grants) as client:
        response = await client.post("/v1/messages", json=ask("hi"), headers={"content-encoding": "identity"})
    assert "Content-Encoding" not in response.text


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_refused(
    scripted: ScriptedUpstream, grants: MemoryGrants, chunked: bool
) -> None:
    async def pieces() -> Any:
        for _ in range(30):
            yield b"x" * 100

    async with gateway_client(scripted, grants, body_limits=BodyLimits({"/v1/messages": 2000})) as client:
        response = await client.post("/v1/messages", content=pieces() if chunked else b"x" * 3000)
        after = await client.post("/v1/messages", json=ask("THINK AND TALK"))
    assert (response.status_code, response.json()["error"]["type"]) == (413, "request_too_large")
    assert after.status_code == 200


async def test_a_body_of_several_megabytes_is_taken(scripted: ScriptedUpstream, grants: MemoryGrants) -> None:
    request = ask("THINK AND TALK", metadata={"filler": "x" * 12_000_000})
    async with gateway_client(scripted, grants) as client:
        response = await client.post("/v1/messages", json=request)
    assert response.status_code == 200


async def test_a_play_can_be_overloaded(scripted: ScriptedUpstream, grants: MemoryGrants) -> None:
    async with gateway_client(scripted, grants) as client:
        response = await client.post("/v1/messages", json=ask("OVERLOADED MODEL", stream=True))
    assert (response.status_code, response.headers["retry-after"]) == (529, "1")
    assert response.json()["error"]["type"] == "overloaded_error"


async def test_a_database_that_is_away_is_no_verdict_on_the_token(scripted: ScriptedUpstream) -> None:
    async def away(_token: str) -> GatewayGrant | None:
        raise OperationalError("connection refused")

    async with gateway_client(scripted, away) as client:
        response = await client.post("/v1/messages", json=ask("hi"))
    assert (response.status_code, response.json()["error"]["type"]) == (503, "api_error")


async def test_an_unexpected_error_has_anthropics_format(scripted: ScriptedUpstream) -> None:
    async def broken(_token: str) -> GatewayGrant | None:
        raise ZeroDivisionError("a secret detail")

    async with gateway_client(scripted, broken) as client:
        response = await client.post("/v1/messages", json=ask("hi"))
    assert (response.status_code, response.json()["error"]["type"]) == (500, "api_error")
    assert "secret detail" not in response.text


async def test_each_call_has_one_line(
    scripted: ScriptedUpstream, grants: MemoryGrants, call_lines: list[dict[str, Any]]
) -> None:
    async with gateway_client(scripted, grants) as client:
        response = await client.post("/v1/messages", json=ask("THINK AND TALK", stream=True))
        await client.get("/nothing")
    # The line of a stream may follow its last byte, which the client already has.
    said, unknown = sorted(call_lines, key=lambda line: line["path"] == "/nothing")
    assert said["duration_ms"] >= 0
    assert {name: said[name] for name in ("job", "attempt", "upstream", "model", "status", "outcome")} == {
        "job": "job_one",
        "attempt": 2,
        "upstream": "scripted",
        "model": "claude-test",
        "status": 200,
        "outcome": "answered",
    }
    assert said["output_tokens"] == 50
    assert said["request_id"] == response.headers["request-id"]
    assert (unknown["job"], unknown["status"]) == (None, 404)


async def test_a_caller_that_goes_away_ends_the_answer(
    scripted: ScriptedUpstream, grants: MemoryGrants, call_lines: list[dict[str, Any]]
) -> None:
    ended = asyncio.Event()

    class Watched(ScriptedUpstream):
        @asynccontextmanager
        async def respond(self, call: UpstreamCall) -> AsyncIterator[UpstreamResponse]:
            async with super().respond(call) as answer:
                yield answer
            ended.set()

    async with gateway_client(Watched(load_scripts(SCRIPTS)), grants) as client:
        async with client.stream("POST", "/v1/messages", json=ask("SILENT MODEL", stream=True)) as response:
            await anext(response.aiter_raw())
        async with asyncio.timeout(20):
            await ended.wait()
    assert call_lines[0]["outcome"] == "disconnected"
