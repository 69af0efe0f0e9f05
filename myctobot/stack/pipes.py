"""Pipes for the output of processes.

In some versions of Python, ``wait()`` of a process with asyncio's own pipes returns only when every descendant
that holds the pipe has ended too. A job runner may outlive its worker by hours.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

MAX_LINE_BYTES = 16 * 1024
# Read lines in batches, because a wake-up for each line costs more than showing it.
_BATCH_WAIT_S = 0.02
# Read on without a wait after a batch of this size, so that a fast writer is not delayed.
_FULL_BATCH_BYTES = MAX_LINE_BYTES // 2
# Time to read the rest of the pipe after its process has ended.
_DRAIN_S = 1.0


@asynccontextmanager
async def piped(*sinks: Callable[[str], None]) -> AsyncIterator[int]:
    """Return a descriptor for the output of one process; each line goes to all sinks.

    A sink that raises an error, such as a file on a full disk, loses lines. Its first line after that says how many.
    Leave the context after that process has ended. All of its output has then reached the sinks.
    """
    read_end, write_end = os.pipe()
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read_end, "rb", buffering=0)
    )
    forwarding = asyncio.create_task(_forward_lines(stream, transport, [_LossySink(sink) for sink in sinks]))
    try:
        yield write_end
    finally:
        os.close(write_end)
        try:
            await asyncio.wait([forwarding], timeout=_DRAIN_S)
        finally:
            forwarding.cancel()
            transport.close()


class _LossySink:
    """Sink whose errors end here: if nothing read the pipe any more, the process would wait in its next write."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._lost, self._reason = 0, ""

    def put(self, line: str) -> None:
        try:
            if self._lost:
                self._write(f"({self._lost} lines were lost here: {self._reason})")
                self._lost = 0
            self._write(line)
        except Exception as error:  # noqa: BLE001  # no error of a sink may stop the reader of a pipe
            self._lost, self._reason = self._lost + 1, str(error)


async def _forward_lines(
    stream: asyncio.StreamReader, transport: asyncio.ReadTransport, sinks: list[_LossySink]
) -> None:
    async for lines in _read_lines(stream):
        for line in lines:
            for sink in sinks:
                sink.put(line)
        if sum(map(len, lines)) < _FULL_BATCH_BYTES:
            transport.pause_reading()
            await asyncio.sleep(_BATCH_WAIT_S)
            transport.resume_reading()


async def _read_lines(stream: asyncio.StreamReader) -> AsyncIterator[list[str]]:
    """Yield lines of any length, long ones in pieces, because ``StreamReader.readline`` fails on long lines."""
    rest = b""
    while chunk := await stream.read(MAX_LINE_BYTES):
        *complete, rest = (rest + chunk).split(b"\n")
        if len(rest) >= MAX_LINE_BYTES:
            complete, rest = [*complete, rest], b""
        yield [line.decode(errors="replace").rstrip("\r") for line in complete]
    if rest:
        yield [rest.decode(errors="replace")]
