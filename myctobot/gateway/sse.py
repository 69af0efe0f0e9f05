"""Server-sent events of the Messages API: encoded for a scripted message, and parsed for the usage of a call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from myctobot.gateway.errors import BrokenUpstream

# Discard lines that are longer than this, because they contain no usage.
MAX_LINE_BYTES = 1024 * 1024
# The largest events of a provider have some results of a tool, far below this.
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
# The standard also allows a carriage return alone, which no provider uses.
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
# Only lines with one of these words are parsed.
_WORDS: Final = (b'"usage"', b'"error"', b'"message_stop"')


def encode_event(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def opening_events(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events that start a message before its content."""
    usage = {**message["usage"], "output_tokens": 1}
    empty = {**message, "content": [], "stop_reason": None, "usage": usage}
    return [{"type": "message_start", "message": empty}, {"type": "ping"}]


def content_events(message: dict[str, Any], chunk: int) -> Iterator[dict[str, Any]]:
    """Yield a message's content as deltas of ``chunk`` characters, then its end."""
    for index, block in enumerate(message["content"]):
        start, deltas = _stream_block(block, chunk)
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]},
        "usage": {"output_tokens": message["usage"]["output_tokens"]},
    }
    yield {"type": "message_stop"}


def _stream_block(block: dict[str, Any], chunk: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": part} for part in _split(block["text"], chunk)]
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": part} for part in _split(block["thinking"], chunk)]
        signature = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*deltas, signature]
    text = json.dumps(block["input"])
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in _split(text, chunk)]


def _split(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


class WholeEvents:
    """Splitter of a stream that is passed on: it holds an event back until its blank line has come.

    A client that gets half an event and then an error would read both as one event.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> bytes:
        """Return the events that are complete with this piece, unchanged.

        Raises:
            BrokenUpstream: an event is too large.
        """
        # A blank line may begin two bytes before the piece.
        searched = max(0, len(self._rest) - 2)
        self._rest += piece
        end = 0
        for found in _BLANK_LINE.finditer(self._rest, searched):
            end = found.end()
        if len(self._rest) - end > MAX_EVENT_BYTES:
            raise BrokenUpstream(f"The upstream sent an event with more than {MAX_EVENT_BYTES} bytes.")
        whole = bytes(self._rest[:end])
        del self._rest[:end]
        return whole


@dataclass(frozen=True)
class Usage:
    """Tokens as the upstream counts them. Input tokens include cache reads and cache writes."""

    input_tokens: int = 0
    output_tokens: int = 0


class UsageReader:
    """Parser of the usage in a response that is passed on unchanged, in pieces of any size.

    ``error`` is the type of an error that occurred after the stream had begun. ``message_ended`` is true after the
    event that ends a message.
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self.error: str | None = None
        self.message_ended = False
        self._rest = b""

    def feed_stream(self, piece: bytes) -> None:
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest = b""
        for line in lines:
            if line.startswith(b"data:") and any(word in line for word in _WORDS):
                self._parse(line[5:])

    def feed_document(self, body: bytes) -> None:
        self._parse(body)

    def read(self, document: dict[str, Any]) -> None:
        """Read an event or a whole message."""
        self.message_ended = self.message_ended or document.get("type") == "message_stop"
        error = document.get("error")
        if document.get("type") == "error" and isinstance(error, dict):
            self.error = str(error.get("type"))[:100]
        holder = document.get("message") if document.get("type") == "message_start" else document
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            self.usage = _merged(self.usage, usage)

    def _parse(self, text: bytes) -> None:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(document, dict):
            self.read(document)


def _merged(seen: Usage, usage: dict[str, Any]) -> Usage:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    counts = [usage[name] for name in names if isinstance(usage.get(name), int)]
    # message_start has the input tokens and message_delta the output tokens. Some deltas repeat the input, even as 0.
    if isinstance(usage.get("input_tokens"), int):
        seen = replace(seen, input_tokens=max(seen.input_tokens, sum(counts)))
    if isinstance(usage.get("output_tokens"), int):
        seen = replace(seen, output_tokens=usage["output_tokens"])
    return seen
