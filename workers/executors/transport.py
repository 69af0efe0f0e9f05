"""Transport of the SDK to the Claude Code CLI in a sandbox: lines of JSON in both directions."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from claude_agent_sdk import CLIConnectionError, ProcessError, Transport

from workers.executors.truncation import keep_beginning, note
from workers.sandbox.sandbox import Mount, Sandbox, SandboxedProcess

CHUNK: Final = 64 * 1024
# A tool's result is one line. The agent limits its own results to far less.
MAX_LINE: Final = 32 * 2**20
STDERR_LINES: Final = 20
STDERR_LINE: Final = 500
# The CLI writes its last line and exits after its input has ended.
EXIT_S: Final = 5


class LineTooLongError(CLIConnectionError):
    """Agent wrote a line that is too long for a message."""


class LineSplitter:
    """Splitter of a stream of chunks into lines, in linear time."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._length = 0

    def push(self, chunk: bytes) -> list[bytes]:
        """Add a chunk and return the lines that it completes.

        Raises:
            LineTooLongError: a line exceeds the limit.
        """
        self._parts.append(chunk)
        self._length += len(chunk)
        if self._length > self._limit:
            raise LineTooLongError(f"it wrote a line of more than {self._limit // 2**20} MB")
        if b"\n" not in chunk:
            return []
        *lines, rest = b"".join(self._parts).split(b"\n")
        self._parts, self._length = [rest], len(rest)
        return lines

    def rest(self) -> bytes:
        return b"".join(self._parts)


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the message in a line, or None, because the agent's own child processes can write here too."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


class SandboxTransport(Transport):
    """Transport of one conversation, which starts the CLI.

    Args:
        sandbox, argv, env, mounts, gateway_url: arguments of ``Sandbox.start``.
        on_start: called with the number of the process.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        argv: Sequence[str],
        env: Mapping[str, str],
        mounts: Sequence[Mount],
        on_start: Callable[[int], None],
        gateway_url: str | None = None,
    ) -> None:
        self._sandbox, self._argv, self._env, self._mounts = sandbox, argv, env, mounts
        self._gateway_url = gateway_url
        self._on_start = on_start
        self._process: SandboxedProcess | None = None
        self._stderr_task: asyncio.Task[None] | None = None
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._stderr_count = 0
        self.returncode: int | None = None

    @property
    def stderr_tail(self) -> str:
        """Last lines that the CLI wrote to its standard error; the first line says so if earlier ones are missing."""
        missing = self._stderr_count > len(self._stderr)
        lines = [note("the end", self._stderr_count, "lines")] if missing else []
        return "\n".join([*lines, *self._stderr])

    async def connect(self) -> None:
        self._process = await self._sandbox.start(
            self._argv, env=self._env, mounts=self._mounts, gateway_url=self._gateway_url
        )
        self._on_start(self._process.pid)
        self._stderr_task = asyncio.create_task(self._read_stderr(self._process.stderr))

    async def _read_stderr(self, stream: asyncio.StreamReader) -> None:
        """Read standard error to its end, so that the CLI never blocks, and keep the last lines."""
        rest = b""
        while chunk := await stream.read(CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            # A line without an end must not grow without a limit, so keep only its beginning.
            rest = rest[:CHUNK]
            self._keep(lines)
        self._keep([rest])

    def _keep(self, lines: Sequence[bytes]) -> None:
        texts = [keep_beginning(line.decode(errors="replace"), STDERR_LINE) for line in lines if line.strip()]
        self._stderr_count += len(texts)
        self._stderr.extend(texts)

    async def write(self, data: str) -> None:
        if self._process is None:
            raise CLIConnectionError("the agent was not started")
        try:
            self._process.stdin.write(data.encode())
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise CLIConnectionError("the agent has ended and takes no more input") from error

    async def end_input(self) -> None:
        if self._process is not None:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._process.stdin.close()

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages until the output ends, because the last one comes late.

        Raises:
            ProcessError: the CLI ended with an error.
        """
        if self._process is None:
            raise CLIConnectionError("the agent was not started")
        lines = LineSplitter()
        while chunk := await self._process.stdout.read(CHUNK):
            for line in lines.push(chunk):
                if (message := parse_line(line)) is not None:
                    yield message
        if (message := parse_line(lines.rest())) is not None:
            yield message
        self.returncode = await self._process.wait()
        if self._stderr_task is not None:
            await asyncio.wait([self._stderr_task], timeout=EXIT_S)
        if self.returncode != 0:
            raise ProcessError("the agent ended with an error", exit_code=self.returncode, stderr=self.stderr_tail)

    def stop(self) -> None:
        """Kill the CLI at once."""
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        if self._process is None:
            return
        await self.end_input()
        try:
            self.returncode = await asyncio.wait_for(self._process.wait(), EXIT_S)
        except TimeoutError:
            self._process.kill()
            with suppress(TimeoutError):
                self.returncode = await asyncio.wait_for(self._process.wait(), EXIT_S)
        if self._stderr_task is not None:
            self._stderr_task.cancel()

    def is_ready(self) -> bool:
        return self._process is not None and self._process.process.returncode is None
