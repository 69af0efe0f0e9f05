"""Git commands of the runner's user: with a fixed environment, bounded output and no process left behind."""

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

# The watcher's input never gets a line. It only ends when the runner dies, in any way.
_WATCHER: Final = 'read -r _; kill -s KILL -- "-$1"'

# Messages of git and its libraries on a full disk, in lower case.
DISK_FULL_SIGNS: Final = ("no space left on device", "disk quota exceeded", "out of diskspace")
DISK_FULL: Final = "The shard's disk is full; try again on another shard or ask the operator to free space."

OnLine = Callable[[str], Awaitable[None]]

# Old tools left these harmless faults in many good repositories, which must stay usable. All other faults that git's
# fsck finds are refused.
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
    """Result of a command; ``truncated`` when it wrote more than was kept."""

    returncode: int
    stdout: bytes
    stderr: str
    truncated: bool = False

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


@dataclass(frozen=True)
class Git:
    """Git with a fixed environment and configuration.

    Args:
        home: empty directory that replaces the home directory.
        config: settings ``name=value`` in addition to those of every call.
        env: variables in addition to those of every call.
        pass_fds: descriptors that git inherits.
        max_file_mb: size of the largest file that a call may write.
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
            # Allow no protocol unless the caller names one.
            "GIT_ALLOW_PROTOCOL": "none",
            # A hostile pack may declare objects of any size. With this limit git fails instead of allocating them.
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
        """Run git and return the result, also for an exit code other than 0.

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
            JobError: ``git_failed`` when the exit code is not 0, ``disk_full`` when that is the reason, or an error of
                ``run``.
        """
        result = await self.run(args, cwd=cwd, timeout_s=timeout_s)
        if result.returncode != 0 and any(sign in result.stderr.lower() for sign in DISK_FULL_SIGNS):
            raise JobError("disk_full", DISK_FULL, retryable=True)
        if result.returncode != 0:
            message = f"git {args[0]} failed on the shard; try again. git said: {last_line(result.stderr)}"
            raise JobError("git_failed", message, retryable=True)
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
    """Run a command in a session of its own and return its result.

    Its whole process group is killed when this call ends or is cancelled, and also when the runner is killed.

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
        message = f"'{argv[0]}' is not installed on this shard; ask the operator to install it."
        raise JobError("git_missing", message) from error
    try:
        async with dies_with_runner(process), asyncio.timeout(timeout_s):
            return await _drain(process, max_output, on_line)
    except TimeoutError as error:
        message = f"git did not end within {timeout_s:g} s; try again."
        raise JobError("git_timeout", message, retryable=True) from error
    finally:
        await _end(process)


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
    while chunk := await stream.read(CHUNK):
        tail = (tail + chunk)[-MAX_STDERR:]
        *lines, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
        pending = pending[:MAX_LINE]
        await _forward_lines(lines, on_line)
    await _forward_lines([pending], on_line)
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
