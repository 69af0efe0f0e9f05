from __future__ import annotations

from typing import Any

import pytest

from workers.executors.transport import LineSplitter, LineTooLongError, parse_line


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_assembled_from_chunks_of_any_size(size: int) -> None:
    text = b'{"a": 1}\n\n{"b": "x y"}\nrest'
    lines = LineSplitter()
    found = [line for start in range(0, len(text), size) for line in lines.push(text[start : start + size])]
    assert found == [b'{"a": 1}', b"", b'{"b": "x y"}']
    assert lines.rest() == b"rest"


def test_a_line_over_the_limit_is_refused_before_it_is_complete() -> None:
    lines = LineSplitter(limit=10)
    lines.push(b"12345")
    with pytest.raises(LineTooLongError):
        lines.push(b"1234567")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"type": "result"}', {"type": "result"}),
        (b"[SandboxDebug] hello", None),
        (b"", None),
        (b'{"type": "resu', None),
        (b"[1]", None),
        (b'{"a":' * 100_000, None),
        (b'\xff{"a": 1}', None),
    ],
)
def test_only_json_objects_are_messages(line: bytes, message: dict[str, Any] | None) -> None:
    assert parse_line(line) == message
