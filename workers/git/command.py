"""Running git as the runner's user: an environment built from nothing, bounded output, no process left behind."""

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

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOCAL_TIMEOUT_S: Final = 120
MAX_STDOUT: Final = 4 * 2**20
MAX_STDERR: Final = 64 * 2**10
MAX_LINE: Final = 2000
CHUNK: Final = 64 * 2**10

# Its input never gets a line: it ends when the runner does, in whatever way.
_WATCH: Final = 'read -r _; kill -s KILL -- "-$1"'

# How git and the libraries under it say that nothing more can be written; in lower case.
DISK_FULL_SIGNS: Final = ("no space left on device", "disk quota exceeded", "out of diskspace")
DISK_FULL: Final = "The shard's disk is full; try again on another shard or ask the operator to free space."

OnLine = Callable[[str], Awaitable[None]]

# Faults that old tools left in the histories of many good repositories. They are harmless, and
# refusing them would refuse the repository; everything else that git's fsck knows is refused.
TOLERATED_FSCK: Final = (
    "badDate",
    "badEmail",
    "badName",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)

_CONFIG: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.bigFileThreshold=32m",
    "core.alternateRefsCommand=true",
    "gc.auto=0",
    "maintenance.auto=false",
    "pack.threads=2",
    "pack.windowMemory=64m",
    "protocol.version=2",
    "submodule.recurse=false",
    "transfer.fsckObjects=true",
    *(f"fetch.fsck.{name}=ignore" for name in TOLERATED_FSCK),
)


@dataclass(frozen=True)
class Result:
    """How a command ended; ``truncated`` when it said more than was kept."""

    returncode: int
    stdout: bytes
    stderr: str
    truncated: bool = False

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


@dataclass(frozen=True)
class Git:
    """One way of calling git.

    Args:
        home: an empty directory that stands in for the home directory.
        config: ``name=value`` beside those that hold for every call.
        env: variables beside those that hold for every call.
        max_file_mb: the largest file that a call may write.
    """

    home: Path
    config: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None
    pass_fds: tuple[int, ...] = ()
    max_file_mb: int = 8192

    def environment(self) -> dict[str, str]:
        return {
            "PATH": PATH,
            "HOME": str(self.home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "GIT_TEMPLATE_DIR": "",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            # No protocol at all unless the caller names one.
            "GIT_ALLOW_PROTOCOL": "none",
            # A hostile pack declares objects of any size; git gives up instead of allocating them.
            "GIT_ALLOC_LIMIT": "1g",
            **(self.env or {}),
        }

    def command(self, args: Sequence[str]) -> list[str]:
        config = [part for setting in (*_CONFIG, *self.config) for part in ("-c", setting)]
        limit = f"--fsize={self.max_file_mb * 2**20}"
        return ["prlimit", limit, "--core=0", "git", *config, *args]

    async def run(
        self,
        args: Sequence[str],
        *,
        cwd: Path,
        timeout_s: float = LOCAL_TIMEOUT_S,
        stdin: int = asyncio.subprocess.DEVNULL,
        max_output: int = MAX_STDOUT,
        on_line: OnLine | None = None,
    ) -> Result:
        """Run git and return how it ended, whatever its exit code.

        Raises:
            JobError: ``git_missing``, or ``git_timeout`` after ``timeout_s`` seconds.
        """
        return await run_process(
            self.command(args),
            env=self.environment(),
            cwd=cwd,
            timeout_s=timeout_s,
            stdin=stdin,
            pass_fds=self.pass_fds,
            max_output=max_output,
            on_line=on_line,
        )

    async def check(self, args: Sequence[str], *, cwd: Path, timeout_s: float = LOCAL_TIMEOUT_S) -> str:
        """Run git and return its output, stripped.

        Raises:
            JobError: ``git_failed`` when the exit code is not 0, ``disk_full`` when that is why, and what
                ``run`` raises.
        """
        result = await self.run(args, cwd=cwd, timeout_s=timeout_s)
        if result.returncode != 0 and any(sign in result.stderr.lower() for sign in DISK_FULL_SIGNS):
            raise JobError("disk_full", DISK_FULL, retryable=True)
        if result.returncode != 0:
            raise JobError("git_failed", f"git {args[0]} failed: {last_line(result.stderr)}", retryable=True)
        return result.text.strip()


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
    """Run a command in a session of its own; its whole process group ends with this call, cancelled or not.

    It also ends with the runner, where that is killed in the middle of the call.

    Raises:
        JobError: ``git_missing``, or ``git_timeout`` (retryable).
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise JobError("git_missing", f"'{argv[0]}' is not installed on this shard; tell the operator.") from error
    try:
        async with ends_with_us(process), asyncio.timeout(timeout_s):
            return await _drain(process, max_output, on_line)
    except TimeoutError as error:
        raise JobError("git_timeout", f"git did not end within {timeout_s:g} s; try again.", retryable=True) from error
    finally:
        await _end(process)


@contextlib.asynccontextmanager
async def ends_with_us(leader: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Within the block, the process group of ``leader`` is killed when this process dies, even by SIGKILL.

    PR_SET_PDEATHSIG would reach the leader alone, and git's helpers go on for as long as their server is silent.
    """
    read, write = os.pipe()
    try:
        try:
            watcher = await asyncio.create_subprocess_exec(
                *("sh", "-c", _WATCH, "sh", str(leader.pid)),
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
            # Before its input ends: the group's number may be another's by then.
            with contextlib.suppress(ProcessLookupError):
                watcher.kill()
            await watcher.wait()
    finally:
        os.close(write)


async def _drain(process: asyncio.subprocess.Process, max_output: int, on_line: OnLine | None) -> Result:
    if process.stdout is None or process.stderr is None:  # both were asked for as pipes
        raise AssertionError("the process has no pipes")
    (stdout, more), stderr = await asyncio.gather(
        read_bounded(process.stdout, max_output), _read_lines(process.stderr, on_line)
    )
    return Result(await process.wait(), stdout, stderr, truncated=more)


async def _end(process: asyncio.subprocess.Process) -> None:
    # The group outlives its leader when git left a helper behind.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def read_bounded(stream: asyncio.StreamReader, limit: int) -> tuple[bytes, bool]:
    """Read to the end, keep the first ``limit`` bytes, and say whether there were more."""
    kept = bytearray()
    more = False
    while chunk := await stream.read(CHUNK):
        room = limit - len(kept)
        more = more or len(chunk) > room
        kept += chunk[:room]
    return bytes(kept), more


async def _read_lines(stream: asyncio.StreamReader, on_line: OnLine | None) -> str:
    """Pass on lines as they are finished, and return the last ``MAX_STDERR`` bytes as text."""
    tail = bytearray()
    pending = b""
    while chunk := await stream.read(CHUNK):
        tail = (tail + chunk)[-MAX_STDERR:]
        *lines, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
        pending = pending[:MAX_LINE]
        await _pass_on(lines, on_line)
    await _pass_on([pending], on_line)
    return tail.decode(errors="replace")


async def _pass_on(lines: Iterable[bytes], on_line: OnLine | None) -> None:
    for line in lines:
        if on_line is not None and (text := readable(line[:MAX_LINE].decode(errors="replace"))):
            await on_line(text)


def readable(line: str) -> str:
    """A line without control characters: what a remote writes must not steer anybody's terminal."""
    return "".join(char if char.isprintable() else " " for char in line).strip()


def last_line(stderr: str) -> str:
    """The line that most likely says what went wrong: fsck's verdict, the last ``fatal`` or ``error``, or the last."""
    lines = [text for line in stderr.splitlines() if (text := readable(line))]
    if verdicts := [line for line in lines if line.startswith("error: object ")]:
        return verdicts[0][:500]
    told = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
    return (told or lines or ["no reason given"])[-1][:500]
