"""Fake upstream that follows scripts, so that a real agent can work without a provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from myctobot.gateway import sse
from myctobot.gateway.sse import UsageReader
from myctobot.gateway.upstreams.base import UpstreamCall, UpstreamResponse
from myctobot.gateway.upstreams.scripted.conversation import read_conversation
from myctobot.gateway.upstreams.scripted.scripts import Script, ScriptStep, choose, compose, estimate_tokens

# Pings show a waiting client that the connection works.
PING_EVERY_S = 5.0


class ScriptedUpstream:
    name = "scripted"

    def __init__(self, scripts: Iterable[Script]) -> None:
        self._scripts = tuple(scripts)

    @asynccontextmanager
    async def respond(self, call: UpstreamCall) -> AsyncIterator[UpstreamResponse]:
        input_tokens = estimate_tokens(call.request.body)
        if call.endpoint == "count_tokens":
            yield _document_response({"input_tokens": input_tokens}, call, UsageReader())
            return
        conversation = read_conversation(await call.document())
        chosen = choose(self._scripts, conversation)
        message = compose(chosen, conversation, input_tokens)
        usage = UsageReader()
        usage.read(message)
        if not call.request.stream:
            await asyncio.sleep(chosen.step.delay_ms / 1000)
            yield _document_response(message, call, usage)
            return
        headers = {"content-type": "text/event-stream; charset=utf-8", "request-id": call.request_id}
        yield UpstreamResponse(200, headers, _stream_events(message, chosen.step), True, usage)

    async def close(self) -> None:
        """Do nothing, because calls share no resources."""


def _document_response(document: dict[str, Any], call: UpstreamCall, usage: UsageReader) -> UpstreamResponse:
    headers = {"content-type": "application/json", "request-id": call.request_id}
    return UpstreamResponse(200, headers, _once(json.dumps(document).encode()), False, usage)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _stream_events(message: dict[str, Any], step: ScriptStep) -> AsyncIterator[bytes]:
    for event in sse.opening_events(message):
        yield sse.encode_event(event)
    left = step.delay_ms / 1000
    while left > 0:
        await asyncio.sleep(min(left, PING_EVERY_S))
        left -= PING_EVERY_S
        yield sse.encode_event({"type": "ping"})
    for event in sse.content_events(message, step.chunk):
        if step.chunk_delay_ms and event["type"] == "content_block_delta":
            await asyncio.sleep(step.chunk_delay_ms / 1000)
        yield sse.encode_event(event)
