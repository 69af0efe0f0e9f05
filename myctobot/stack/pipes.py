"""Pipes for what processes write.

asyncio's own subprocess pipes bind the end of a process to the end of its pipe: ``wait()`` returns, on
some versions of Python, only when every descendant that holds the pipe has ended as well. A job runner
outlives its worker by hours.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

MAX_LINE_BYTES = 16 * 1024
# Lines that come one after the other are read together: to wake up for a line takes longer than to show it.
_TOGETHER_S = 0.02
# Who writes so much at once is not made to wait.
_MUCH_BYTES = MAX_LINE_BYTES // 2
# What a process that has ended may still have in its pipe.
_DRAIN_S = 1.0


@asynccontextmanager
async def piped(*sinks: Callable[[str], None]) -> AsyncIterator[int]:
    """Give a descriptor to start one process with; each line written to it goes to all sinks.

    Leave the context when that process has ended: what it wrote has reached the sinks then.
    """
    read_end, write_end = os.pipe()
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read_end, "rb", buffering=0)
    )
    pump = asyncio.create_task(_pump(stream, transport, sinks))
    try:
        yield write_end
    finally:
        os.close(write_end)
        try:
            await asyncio.wait([pump], timeout=_DRAIN_S)
        finally:
            pump.cancel()
            transport.close()


async def _pump(
    stream: asyncio.StreamReader, transport: asyncio.ReadTransport, sinks: tuple[Callable[[str], None], ...]
) -> None:
    async for lines in _lines(stream):
        for line in lines:
            for sink in sinks:
                sink(line)
        if sum(map(len, lines)) < _MUCH_BYTES:
            transport.pause_reading()
            await asyncio.sleep(_TOGETHER_S)
            transport.resume_reading()


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[list[str]]:
    """Lines of any length, the long ones in pieces; StreamReader's own reading fails at those."""
    rest = b""
    while chunk := await stream.read(MAX_LINE_BYTES):
        *complete, rest = (rest + chunk).split(b"\n")
        if len(rest) >= MAX_LINE_BYTES:
            complete, rest = [*complete, rest], b""
        yield [line.decode(errors="replace").rstrip("\r") for line in complete]
    if rest:
        yield [rest.decode(errors="replace")]
