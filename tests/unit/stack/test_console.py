"""Terminal of the stack, also when it is a file on a full disk."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from myctobot.stack.console import StackConsole


def test_a_full_disk_loses_the_lines_of_the_stack_and_is_an_error_for_those_of_a_process() -> None:
    # Python would try to write the rest again when it closes the file.
    with Path("/dev/full").open("wb", buffering=0) as full:
        console = StackConsole(io.TextIOWrapper(full, write_through=True))
        console.say("web ended; restarting it")
        console.banner("MyCTOBot runs", {"Console": "http://127.0.0.1:8000"})
        with pytest.raises(OSError, match="No space left"):
            console.line("web", "started")


def test_a_closed_pipe_is_no_error_and_gets_nothing_more() -> None:
    tries: list[str] = []

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            tries.append(text)
            raise BrokenPipeError

    console = StackConsole(Closed())
    console.line("web", "started")
    console.banner("MyCTOBot runs", {})
    assert len(tries) == 1
