"""Processes of git and ssh: with bounded output and time, and no process left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.errors import JobError
from workers.git.trace import NOTHING, GitTrace

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_STDOUT: Final = 4 * 2**20
MAX_STDERR: Final = 64 * 2**10
MAX_LINE: Final = 2000
# Lines of one call that are forwarded. A hostile server may send lines without end.
MAX_LINES: Final = 2000
CHUNK: Final = 64 * 2**10

# The watcher's input never gets a line. It only ends when the runner dies, in any way.
_WATCHER: Final = 'read -r _; kill -s KILL -- "-$1"'

OnLine = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Result:
    """Result of a command; ``truncated`` when it wrote more than was kept.

    Args:
        trace: errors that git's programs reported.
        remote_lines: the first lines of the remote's own, for a call of a remote.
        ssh_lines: messages of the ssh client, for a call over ssh.
    """

    returncode: int
    stdout: bytes
    stderr: str
    truncated: bool = False
    trace: GitTrace = NOTHING
    remote_lines: tuple[str, ...] = ()
    ssh_lines: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


async def run_process(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    timeout_s: float,
    stdin: int = asyncio.subprocess.DEVNULL,
    pass_fds: Iterable[int] = (),
    max_output: int = MAX_STDOUT,
    on_line: OnLine | None = None,
) -> Result:
    """Run a command in a session of its own and return its result.

    Its whole process group is killed when this call ends or is cancelled, and also when the runner is killed.

    Raises:
        JobError: ``git_missing``, or ``git_timeout`` (retryable).
    """
    starting = start_process(argv, env=env, cwd=cwd, stdin=stdin, stderr=asyncio.subprocess.PIPE, pass_fds=pass_fds)
    try:
        async with starting as process, asyncio.timeout(timeout_s):
            return await _drain(process, max_output, on_line)
    except TimeoutError as error:
        raise timed_out(timeout_s) from error


@contextlib.asynccontextmanager
async def start_process(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdin: int,
    stderr: int,
    pass_fds: Iterable[int] = (),
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command in a session of its own, and kill its process group when the block ends or the runner is killed.

    Raises:
        JobError: ``git_missing``.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        message = f"'{argv[0]}' is not installed on this shard; ask the operator to install it."
        raise JobError("git_missing", message) from error
    try:
        async with dies_with_runner(process):
            yield process
    finally:
        await _end(process)


def timed_out(timeout_s: float) -> JobError:
    return JobError("git_timeout", f"git did not end within {timeout_s:g} s; try again.", retryable=True)


@contextlib.asynccontextmanager
async def dies_with_runner(leader: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Kill the process group of ``leader`` when this process dies within the block, even by SIGKILL.

    PR_SET_PDEATHSIG would only reach the leader, and git's helpers run for as long as their server is silent.
    """
    read, write = os.pipe()
    try:
        try:
            watcher = await asyncio.create_subprocess_exec(
                *("sh", "-c", _WATCHER, "sh", str(leader.pid)),
                env={"PATH": PATH},
                cwd="/",
                stdin=read,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(read)
        try:
            yield
        finally:
            # Kill the watcher before its input ends, because the number may already belong to another group.
            with contextlib.suppress(ProcessLookupError):
                watcher.kill()
            await watcher.wait()
    finally:
        os.close(write)


async def _drain(process: asyncio.subprocess.Process, max_output: int, on_line: OnLine | None) -> Result:
    if process.stdout is None or process.stderr is None:  # both were requested as pipes
        raise AssertionError("the process has no pipes")
    (stdout, more), stderr = await asyncio.gather(
        read_bounded(process.stdout, max_output), _read_lines(process.stderr, on_line)
    )
    return Result(await process.wait(), stdout, stderr, truncated=more)


async def _end(process: asyncio.subprocess.Process) -> None:
    # The group outlives its leader when a helper of git still runs.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def read_bounded(stream: asyncio.StreamReader, limit: int) -> tuple[bytes, bool]:
    """Read to the end; return the first ``limit`` bytes and whether there were more."""
    kept = bytearray()
    more = False
    while chunk := await stream.read(CHUNK):
        room = limit - len(kept)
        more = more or len(chunk) > room
        kept += chunk[:room]
    return bytes(kept), more


async def _read_lines(stream: asyncio.StreamReader, on_line: OnLine | None) -> str:
    """Forward complete lines, and return the last ``MAX_STDERR`` bytes as text."""
    tail = bytearray()
    pending = b""
    room = MAX_LINES
    while chunk := await stream.read(CHUNK):
        tail = (tail + chunk)[-MAX_STDERR:]
        *lines, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
        pending = pending[:MAX_LINE]
        await _forward_lines(lines[:room], on_line)
        room -= len(lines[:room])
    await _forward_lines([pending][:room], on_line)
    return tail.decode(errors="replace")


async def _forward_lines(lines: Iterable[bytes], on_line: OnLine | None) -> None:
    for line in lines:
        if on_line is not None and (text := printable_line(line[:MAX_LINE].decode(errors="replace"))):
            await on_line(text)


def printable_line(line: str) -> str:
    """Return a line without control characters, because a remote's text must not control a terminal."""
    return "".join(char if char.isprintable() else " " for char in line).strip()


def last_line(stderr: str) -> str:
    """Return the line that most likely has the cause: fsck's verdict, the last ``fatal`` or ``error``, or the last."""
    lines = [text for line in stderr.splitlines() if (text := printable_line(line))]
    if verdicts := [line for line in lines if line.startswith("error: object ")]:
        return verdicts[0][:500]
    causes = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
    return (causes or lines or ["no reason given"])[-1][:500]
