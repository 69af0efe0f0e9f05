"""Processes inside a sandbox, and how they are started: the thin part that talks to the kernel."""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from workers.errors import JobError
from workers.sandbox.plan import BASE_ENV, Descriptors, Host, Mount, SandboxConfig
from workers.sandbox.sandbox import plan as sandbox_plan
from workers.sandbox.sandbox import process_tree

START_TIMEOUT_S: Final = 20
CHUNK: Final = 64 * 1024
# Of one readline(); who reads lines of any length reads chunks.
STREAM_LIMIT: Final = 1024 * 1024
TOOLS: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Launch:
    """What to start.

    Args:
        argv: the program and its arguments, as seen inside; others on the shard can read them.
        env: added to BASE_ENV; nobody but the process and its children can read it.
        cwd: where it starts, as seen inside.
        mounts: what it sees beside its workspace and home.
        stdout: a pipe, or the file that takes the output.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    mounts: Sequence[Mount] = ()
    stdout: int | BinaryIO = asyncio.subprocess.PIPE


@dataclass(eq=False)
class SandboxedProcess:
    """A process in the sandbox.

    Args:
        process: bubblewrap's on the host, or without a sandbox the command's own.
        init: the first process inside as the host numbers it, and a descriptor of it that outlives
            the number; when it ends, the kernel ends all others inside before it is gone.
    """

    process: asyncio.subprocess.Process
    init: int | None = None
    init_fd: int | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdin(self) -> asyncio.StreamWriter:
        assert self.process.stdin is not None  # noqa: S101 - for the type checker; it is always a pipe
        return self.process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None  # noqa: S101 - for the type checker; a pipe for who reads it
        return self.process.stdout

    @property
    def stderr(self) -> asyncio.StreamReader:
        assert self.process.stderr is not None  # noqa: S101 - for the type checker; it is always a pipe
        return self.process.stderr

    async def wait(self) -> int:
        """Wait for the end; a process that a signal ended has 128 plus its number, as in a shell."""
        code = await self.process.wait()
        return code if code >= 0 else 128 - code

    def roots(self) -> set[int]:
        """Give the host's numbers of what is surely still this process and its init."""
        found = {self.pid} if self.process.returncode is None else set()
        if self.init is not None and self.init_fd is not None and _exists(self.init_fd):
            found.add(self.init)
        return found

    def kill(self) -> None:
        """Kill all inside; bubblewrap's process on the host then ends by itself and leaves no zombie."""
        with suppress(ProcessLookupError):
            if self.init_fd is not None and _exists(self.init_fd):
                signal.pidfd_send_signal(self.init_fd, signal.SIGKILL)
            elif self.process.returncode is None:
                self.process.kill()

    def forget(self) -> None:
        """Close what is open towards a process that has ended."""
        if self.init_fd is not None:
            os.close(self.init_fd)
            self.init_fd = None
        # asyncio closes its pipes only when each was read to its end, and has no public way to say enough.
        self.process._transport.close()  # type: ignore[attr-defined]  # the stubs leave it out


def _exists(pidfd: int) -> bool:
    # A descriptor of a process is readable once it has ended, whether or not its parent has noticed.
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def look_at_host() -> Host:
    """Find out what the plan needs to know of this machine."""
    links = {name: _link(Path(name)) for name in sandbox_plan.SYSTEM_DIRS if Path(name).exists()}
    return Host(os.geteuid() == 0, links, shutil.which("bwrap", path=TOOLS), shutil.which("setpriv", path=TOOLS))


def works(bwrap: str) -> bool:
    """Whether bubblewrap can do what it is there for; inside many containers it cannot."""
    trial = [bwrap, "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "--", "true"]
    try:
        return subprocess.run(trial, env={"PATH": TOOLS}, capture_output=True, timeout=START_TIMEOUT_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _link(path: Path) -> str | None:
    return str(path.readlink()) if path.is_symlink() else None


async def spawn_isolated(
    config: SandboxConfig, host: Host, agent_dir: Path, launch: Launch, confine: Callable[[SandboxedProcess], None]
) -> SandboxedProcess:
    """Start a process in bubblewrap.

    ``confine`` is called with the process complete and still waiting, so that nothing of the
    agent's runs outside of its groups and limits, not even for a moment.

    Raises:
        JobError: ``sandbox_failed``, with bubblewrap's reason.
    """
    with ExitStack() as ours, ExitStack() as theirs:
        texts = (sandbox_plan.passwd(config.agent_uid), sandbox_plan.group(config.agent_uid))
        passwd, group = (_memory_file(theirs, text) for text in texts)
        (info, info_end), (block_end, block) = os.pipe(), os.pipe()
        ours.callback(os.close, block)
        for end in (info_end, block_end):
            theirs.callback(os.close, end)
        fds = Descriptors(passwd, group, info_end, block_end)
        wanted = sandbox_plan.options(config, host, agent_dir, launch.mounts, launch.env, launch.cwd, fds)
        arguments = _memory_file(theirs, "".join(f"{option}\0" for option in wanted))
        process = await asyncio.create_subprocess_exec(
            str(host.bwrap), "--args", str(arguments), "--", *sandbox_plan.command(config, host, launch.argv),
            stdin=asyncio.subprocess.PIPE, stdout=launch.stdout, stderr=asyncio.subprocess.PIPE, limit=STREAM_LIMIT,
            env={}, cwd="/", start_new_session=True, pass_fds=(passwd, group, info_end, block_end, arguments),
        )  # fmt: skip
        theirs.close()
        started = SandboxedProcess(process)
        try:
            text = await asyncio.wait_for(_read_info(info), START_TIMEOUT_S)
            started.init = int(json.loads(text)["child-pid"])
            started.init_fd = os.pidfd_open(started.init)
            confine(started)
            os.write(block, b"\n")
        except (TimeoutError, EOFError, ValueError, KeyError, OSError) as error:
            # The gate opens when we close our end of it, so first end who waits there.
            signal_all(process_tree.descendants(process_tree.snapshot(), started.roots()), signal.SIGKILL)
            said = await started.stderr.read(CHUNK)
            await started.wait()
            started.forget()
            raise setup_failure(said or str(error).encode()) from error
    return started


def setup_failure(said: bytes) -> JobError:
    """Make the error of a sandbox that could not be set up, from what bubblewrap wrote last."""
    lines = said.decode(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else "it gave no reason"
    return JobError("sandbox_failed", f"the sandbox could not be set up on this shard: {reason}", retryable=True)


async def spawn_plain(launch: Launch, places: Mapping[str, str]) -> SandboxedProcess:
    """Start a process without a sandbox, in a session of its own, with the sandbox's paths translated.

    Raises:
        JobError: ``command_missing``.
    """
    env = {name: sandbox_plan.host_view(value, places) for name, value in {**BASE_ENV, **launch.env}.items()}
    try:
        process = await asyncio.create_subprocess_exec(
            *(sandbox_plan.host_view(argument, places) for argument in launch.argv),
            stdin=asyncio.subprocess.PIPE, stdout=launch.stdout, stderr=asyncio.subprocess.PIPE, limit=STREAM_LIMIT,
            env=env, cwd=sandbox_plan.host_view(launch.cwd, places), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise JobError("command_missing", f"'{launch.argv[0]}' cannot be started on this shard: {error}") from error
    return SandboxedProcess(process)


def _memory_file(stack: ExitStack, text: str) -> int:
    """Put ``text`` where only who holds the descriptor can read it."""
    descriptor = os.memfd_create("sandbox")
    stack.callback(os.close, descriptor)
    os.write(descriptor, text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


async def _read_info(descriptor: int) -> bytes:
    """Read bubblewrap's JSON object; takes the descriptor over."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
    try:
        return await reader.readuntil(b"}")
    finally:
        transport.close()


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass
class Kept:
    """The beginning of a stream that was read to its end."""

    data: bytearray = field(default_factory=bytearray)
    truncated: bool = False


async def drain(stream: asyncio.StreamReader | None, limit: int) -> Kept:
    """Read a stream to its end, so that its writer never waits, and keep ``limit`` bytes."""
    kept = Kept()
    while stream is not None and (chunk := await stream.read(CHUNK)):
        room = limit - len(kept.data)
        kept.data += chunk[:room]
        kept.truncated |= len(chunk) > room
    return kept


async def feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    """Write all input and end it; a reader that does not care is no error."""
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()
