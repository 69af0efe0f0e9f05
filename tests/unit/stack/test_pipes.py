"""Pipes show all that was written, in order, however it was written."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from myctobot.stack.pipes import MAX_LINE_BYTES, piped


async def shown(program: str, *, within_s: float = 10) -> list[str]:
    """The lines that a program of Python's wrote."""
    lines: list[str] = []
    async with asyncio.timeout(within_s), piped(lines.append) as descriptor:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=descriptor)
        await process.wait()
    return lines


@pytest.mark.parametrize("end", ["", "\\n"])
def test_lines_with_and_without_an_end(end: str) -> None:
    program = f"import sys; sys.stdout.write('one\\ntwo\\r\\n\\nlast{end}')"
    assert asyncio.run(shown(program)) == ["one", "two", "", "last"]


def test_lines_that_come_one_by_one() -> None:
    program = "import time\nfor n in range(30): print(n, flush=True); time.sleep(0.005)"
    assert asyncio.run(shown(program)) == [str(number) for number in range(30)]


def test_much_at_once_is_not_held_up() -> None:
    # More than a pipe holds: what writes it waits for who reads.
    lines = asyncio.run(shown("for n in range(100_000): print(n, 'x' * 60)"))
    assert len(lines) == 100_000
    assert lines[-1].startswith("99999 x")


def test_a_long_line_comes_in_pieces() -> None:
    lines = asyncio.run(shown(f"print('x' * {3 * MAX_LINE_BYTES})"))
    assert "".join(lines) == "x" * 3 * MAX_LINE_BYTES
    assert max(map(len, lines)) <= 2 * MAX_LINE_BYTES


def test_a_line_is_shown_while_its_program_goes_on() -> None:
    async def first() -> str:
        lines: asyncio.Queue[str] = asyncio.Queue()
        async with piped(lines.put_nowait) as descriptor:
            os.write(descriptor, b"now\n")
            return await asyncio.wait_for(lines.get(), 5)

    assert asyncio.run(first()) == "now"
