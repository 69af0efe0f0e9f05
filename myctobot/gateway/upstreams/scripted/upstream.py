"""The shipped fake: plays a model from files, so that a real agent does real work without a provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from myctobot.gateway import sse
from myctobot.gateway.sse import UsageReader
from myctobot.gateway.upstreams.base import Answer, UpstreamCall
from myctobot.gateway.upstreams.scripted.conversation import read_conversation
from myctobot.gateway.upstreams.scripted.scripts import Play, Step, choose, compose, estimate_tokens

# A waiting client sees that the line is alive.
PING_EVERY_S = 5.0


class ScriptedUpstream:
    name = "scripted"

    def __init__(self, plays: Iterable[Play]) -> None:
        self._plays = tuple(plays)

    @asynccontextmanager
    async def answer(self, call: UpstreamCall) -> AsyncIterator[Answer]:
        input_tokens = estimate_tokens(call.request.body)
        if call.endpoint == "count_tokens":
            yield _document({"input_tokens": input_tokens}, call, UsageReader())
            return
        talk = read_conversation(call.request.document)
        chosen = choose(self._plays, talk)
        message = compose(chosen, talk, input_tokens)
        usage = UsageReader()
        usage.read(message)
        if not call.request.stream:
            await asyncio.sleep(chosen.step.delay_ms / 1000)
            yield _document(message, call, usage)
            return
        headers = {"content-type": "text/event-stream; charset=utf-8", "request-id": call.request_id}
        yield Answer(200, headers, _played(message, chosen.step), True, usage)

    async def close(self) -> None:
        """Nothing is shared."""


def _document(document: dict[str, Any], call: UpstreamCall, usage: UsageReader) -> Answer:
    headers = {"content-type": "application/json", "request-id": call.request_id}
    return Answer(200, headers, _once(json.dumps(document).encode()), False, usage)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _played(message: dict[str, Any], step: Step) -> AsyncIterator[bytes]:
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
