"""Truncated texts say that they are truncated."""

from __future__ import annotations

import asyncio

import pytest

from workers.executors.scripted import MAX_OUTPUT, _read_until_marker
from workers.executors.truncation import keep_beginning, keep_end

MARKER = "step-1"


@pytest.mark.parametrize("length", [0, 99, 100])
def test_a_text_within_its_limit_stays(length: int) -> None:
    text = "x" * length
    assert keep_beginning(text, 100) == keep_end(text, 100) == text


@pytest.mark.parametrize("length", [101, 5000])
def test_a_longer_text_says_what_is_missing(length: int) -> None:
    text = "a" * (length - 1) + "z"
    beginning, end = keep_beginning(text, 100), keep_end(text, 100)
    assert len(beginning) == len(end) == 100
    assert beginning.startswith("aaa")
    assert beginning.endswith(f"\n[truncated: only the beginning of {length:,} characters is kept]")
    assert end.startswith(f"[truncated: only the end of {length:,} characters is kept]\naaa")
    assert end.endswith("z")


def read(data: bytes) -> tuple[str, int | None]:
    async def whole() -> tuple[str, int | None]:
        stream = asyncio.StreamReader()
        stream.feed_data(data)
        stream.feed_eof()
        return await _read_until_marker(stream, MARKER)

    return asyncio.run(whole())


@pytest.mark.parametrize("length", [0, 50, 5000, MAX_OUTPUT])
def test_output_of_a_script_within_its_limit_stays(length: int) -> None:
    text = "x" * length
    assert read(f"{text}\n{MARKER} 3\n".encode()) == (text, 3)
    assert read(text.encode()) == (text, None)


@pytest.mark.parametrize("length", [MAX_OUTPUT + 1, 3 * MAX_OUTPUT])
def test_longer_output_of_a_script_says_what_is_missing(length: int) -> None:
    said = f"\n[truncated: only the beginning of {length:,} bytes is kept]"
    expected = "x" * (MAX_OUTPUT - len(said)) + said
    assert read(b"x" * length + f"\n{MARKER} 0\n".encode()) == (expected, 0)
    assert read(b"x" * length) == (expected, None)
