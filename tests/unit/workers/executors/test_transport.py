from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from workers.executors.transport import (
    STDERR_LINE,
    STDERR_LINES,
    LineSplitter,
    LineTooLongError,
    SandboxTransport,
    parse_line,
)


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


def errors_of(text: str) -> list[str]:
    """Return the kept lines of what the CLI wrote to its standard error."""

    async def whole() -> str:
        stream = asyncio.StreamReader()
        stream.feed_data(text.encode())
        stream.feed_eof()
        transport = SandboxTransport(cast(Any, None), [], {}, [], lambda pid: None)
        await transport._read_stderr(stream)
        return transport.stderr_tail

    return asyncio.run(whole()).splitlines()


def test_a_few_errors_are_kept_as_they_are() -> None:
    lines = [f"line {number}" for number in range(STDERR_LINES)]
    assert errors_of("\n".join(lines)) == lines


def test_errors_say_which_part_of_them_is_missing() -> None:
    lines = [f"line {number}" for number in range(STDERR_LINES + 5)]
    note = f"[truncated: only the end of {STDERR_LINES + 5} lines is kept]"
    assert errors_of("\n".join(lines)) == [note, *lines[5:]]
    beginning, said = errors_of("x" * 5000)
    assert said == "[truncated: only the beginning of 5,000 characters is kept]"
    assert len(beginning) + 1 + len(said) == STDERR_LINE
