"""Encoding of events as text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.events.encoding import EventBlock, dropped_marker, encode, head, page_of
from myctobot.contract.jobs import Event


def line(seq: int, text: str = "x", kind: str = "log.line", at: str = "2030-01-01T00:00:00Z") -> str:
    data = {"text": text}
    return encode(Event(seq=seq, at=at, kind=kind, data=data), json.dumps(data))


@pytest.mark.parametrize(
    "text", ["plain", 'a "quoted" \\ word', "two\nlines\r", "\u2028\u0085\x0b\x0c", "ü日本", ',"kind":"end"']
)
def test_a_line_is_the_event_on_one_line_in_ascii(text: str) -> None:
    written = line(7, text)
    assert json.loads(written) == {"seq": 7, "at": "2030-01-01T00:00:00Z", "kind": "log.line", "data": {"text": text}}
    assert written.splitlines() == [written]
    assert written.isascii()


@pytest.mark.parametrize("at", ["2030", '"', '","kind":"end","x":"', "\\", "\n"])
def test_number_and_kind_are_read_from_any_event(at: str) -> None:
    assert head(line(12, 'x","kind":"end"', "tool.call", at)) == (12, "tool.call")


@pytest.mark.parametrize("text", ["", "{}", '{"kind":"log.line","seq":1}', '{"seq":"1","at":"","kind":"x"}'])
def test_invalid_lines_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no line"):
        head(text)


def batch(first: int, last: int) -> EventBlock:
    return EventBlock(first, last, tuple(line(seq) for seq in range(first, last + 1)))


@pytest.mark.parametrize(("after", "expected"), [(0, [3, 4, 5]), (2, [3, 4, 5]), (3, [4, 5]), (4, [5])])
def test_events_after_a_number(after: int, expected: list[int]) -> None:
    rest = batch(3, 5).after(after)
    assert [head(item)[0] for item in rest.lines] == expected
    assert (rest.first_seq, rest.last_seq) == (expected[0], 5)


@pytest.mark.parametrize("after", [0, 4, 7, 99])
def test_a_marker_is_not_split(after: int) -> None:
    mark = dropped_marker(5, 100, "2030", size=4096, reason="bound")
    whole: dict[str, Any] = json.loads(mark)
    assert whole["seq"] == 100
    assert whole["data"] == {"first_seq": 5, "events": 96, "bytes": 4096, "reason": "bound"}
    assert EventBlock(5, 100, (mark,)).after(after).lines == (mark,)


@pytest.mark.parametrize(("last_seq", "more"), [(2, False), (3, True)])
def test_a_page_passes_its_lines_on(last_seq: int, more: bool) -> None:
    lines = [encode(Event(seq=seq, at="now", kind="log.line", data={}), '{"text": "x"}') for seq in (1, 2)]
    page = page_of(lines, 0, last_seq, "running")
    assert ",".join(lines).encode() in page
    assert json.loads(page) == {
        "events": [json.loads(line) for line in lines],
        "next_after": 2,
        "more": more,
        "status": "running",
    }


def test_an_empty_page_keeps_the_position() -> None:
    assert json.loads(page_of([], 7, 7, "failed")) == {"events": [], "next_after": 7, "more": False, "status": "failed"}
