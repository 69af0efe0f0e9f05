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


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("I/O operation on closed file")])
def test_a_sink_that_fails_loses_lines_and_does_not_block_the_program(error: Exception) -> None:
    kept: list[str] = []
    other: list[str] = []

    def sink(line: str) -> None:
        if int(line.strip("(").split()[0]) < 5000:
            raise error
        kept.append(line)

    async def run() -> int | None:
        async with asyncio.timeout(20), piped(sink, other.append) as descriptor:
            # This is several times what a pipe holds.
            program = "for n in range(5003): print(n, 'x' * 60)"
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=descriptor)
            return await process.wait()

    assert asyncio.run(run()) == 0
    assert [line.split()[0] for line in kept] == ["(5000", "5000", "5001", "5002"]
    assert kept[0] == f"(5000 lines were lost here: {error})"
    assert len(other) == 5003
