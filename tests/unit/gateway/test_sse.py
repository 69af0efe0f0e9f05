from __future__ import annotations

import json

import pytest

from myctobot.gateway.errors import BrokenUpstream, error_event
from myctobot.gateway.sse import (
    MAX_EVENT_BYTES,
    MAX_LINE_BYTES,
    Usage,
    UsageReader,
    WholeEvents,
    content_events,
    encode_event,
)

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
    reader, events = UsageReader(), WholeEvents()
    reader.feed_stream(events.feed(b'data: {"half'))
    reader.feed_stream(error_event("timeout_error", "late", "req_1"))
    assert reader.error == "timeout_error"


@pytest.mark.parametrize(
    ("stream", "is_whole"),
    [
        (STREAM, False),
        (STREAM + encode_event({"type": "message_stop"}), True),
        (b'data: {"text": "message_stop"}\n\n', False),
    ],
)
def test_the_end_of_a_message_is_noticed(stream: bytes, is_whole: bool) -> None:
    reader = UsageReader()
    reader.feed_stream(stream)
    assert reader.message_ended is is_whole


EVENTS = [b"event: a\ndata: 1\n\n", b"data: 2\r\n\r\n", b": ping\n\n", b"data: 3\n\r\n"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_only_whole_events_are_passed_on(size: int) -> None:
    stream, events, passed = b"".join(EVENTS) + b"data: half\n", WholeEvents(), b""
    ends = {len(b"".join(EVENTS[:count])) for count in range(len(EVENTS) + 1)}
    for start in range(0, len(stream), size):
        passed += events.feed(stream[start : start + size])
        assert len(passed) in ends
    assert passed == b"".join(EVENTS)


def test_an_event_is_held_back_up_to_a_bound() -> None:
    events = WholeEvents()
    assert events.feed(b"x" * MAX_EVENT_BYTES) == b""
    with pytest.raises(BrokenUpstream, match="more than 8388608 bytes"):
        events.feed(b"x")


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
