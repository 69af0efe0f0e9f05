from __future__ import annotations

import json

import pytest

from myctobot.gateway.errors import error_event
from myctobot.gateway.sse import MAX_LINE_BYTES, Usage, UsageReader, content_events, encode_event

START = {"type": "message_start", "message": {"usage": {"input_tokens": 2, "cache_read_input_tokens": 3}}}
DELTA = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9, "input_tokens": 0}}
STREAM = encode_event(START) + encode_event({"type": "ping"}) + encode_event(DELTA)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_usage_is_read_from_pieces_of_any_size(size: int) -> None:
    reader = UsageReader()
    for start in range(0, len(STREAM), size):
        reader.feed_stream(STREAM[start : start + size])
    assert reader.usage == Usage(input_tokens=5, output_tokens=9)
    assert reader.error is None


def test_usage_is_read_from_a_whole_message() -> None:
    reader = UsageReader()
    reader.feed_document(b'{"usage": {"input_tokens": 1, "output_tokens": 2}}')
    assert reader.usage == Usage(1, 2)


@pytest.mark.parametrize(
    "line", [b"data: {", b'data: {"usage": 5}', b'data: "usage"', b'data: {"type":"message_start","message":["usage"]}']
)
def test_what_makes_no_sense_is_passed_over(line: bytes) -> None:
    reader = UsageReader()
    reader.feed_stream(line + b"\n\n" + STREAM)
    assert reader.usage == Usage(5, 9)


def test_a_line_without_end_is_not_kept() -> None:
    reader = UsageReader()
    for _ in range(3):
        reader.feed_stream(b"x" * MAX_LINE_BYTES)
    reader.feed_stream(b"\n" + STREAM)
    assert reader.usage == Usage(5, 9)


def test_an_error_within_the_stream_is_noticed_even_after_half_a_line() -> None:
    reader = UsageReader()
    reader.feed_stream(b'data: {"half')
    reader.feed_stream(error_event("timeout_error", "late", "req_1"))
    assert reader.error == "timeout_error"


def test_content_comes_in_pieces_that_make_the_whole() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm, well", "signature": "s"},
        {"type": "text", "text": "some text"},
        {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls -l"}},
    ]
    message = {"content": blocks, "stop_reason": "tool_use", "stop_sequence": None, "usage": {"output_tokens": 4}}
    deltas = [event["delta"] for event in content_events(message, 3) if event["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == "hm, well"
    assert "".join(delta.get("text", "") for delta in deltas) == "some text"
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas)) == {"command": "ls -l"}
    assert all(len(delta.get("text", "")) <= 3 for delta in deltas)
