"""Start and end of processes inside a sandbox: the thin layer over the kernel's interface."""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from workers.errors import JobError
from workers.sandbox import plan, process_tree, seccomp
from workers.sandbox.forwarding import ForwardedPort, Forwarder
from workers.sandbox.network import listen_inside
from workers.sandbox.plan import BASE_ENV, Descriptors, Mount, SandboxConfig, SandboxHost

POLL_S: Final = 0.01
START_TIMEOUT_S: Final = 20
CHUNK: Final = 64 * 1024
# Limit of one readline(); code that reads lines of any length reads chunks.
STREAM_LIMIT: Final = 1024 * 1024
# bubblewrap as root needs this capability, which the units of earlier releases lack.
NO_NETWORK_HINT: Final = (
    "; a network for each job needs CAP_NET_ADMIN: update the worker's unit with the playbook or from a new template, "
    "or set sandbox.network to shard"
)
TOOLS: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class Completed(NamedTuple):
    """Result of a command; ``truncated`` when it wrote more than was kept."""

    returncode: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False


@dataclass(frozen=True)
class Launch:
    """Command to start in a sandbox.

    Args:
        argv: the program and its arguments, as seen inside; others on the shard can read them.
        env: variables that are added to BASE_ENV; only the process and its children can read them.
        cwd: working directory, as seen inside.
        mounts: files and directories that it sees in addition to its workspace and home.
        routes: ways out of its own network; without one of its own, they are not used.
        stdout: a pipe, or the file that receives the output.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    mounts: Sequence[Mount] = ()
    routes: Sequence[ForwardedPort] = ()
    stdout: int | BinaryIO = asyncio.subprocess.PIPE


class StatusPipe:
    """Reading end of bubblewrap's status, which has one JSON object a line.

    Args:
        descriptor: the reading end, which this object closes.
    """

    def __init__(self, descriptor: int) -> None:
        self._reader = asyncio.StreamReader()
        self._pipe = os.fdopen(descriptor, "rb", buffering=0)
        self._transport: asyncio.ReadTransport | None = None

    async def first(self) -> bytes:
        """Return the first object, which names the sandbox's first process."""
        protocol = asyncio.StreamReaderProtocol(self._reader)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, self._pipe)
        return await self._reader.readuntil(b"}")

    async def rest(self) -> bytes:
        """Return everything after the first object, once bubblewrap has ended."""
        return await self._reader.read()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        else:
            self._pipe.close()


@dataclass(eq=False)
class SandboxedProcess:
    """Process in the sandbox.

    Args:
        process: bubblewrap's process on the host, or the command itself without a sandbox.
        init: host's number of the first process inside; when it ends, the kernel first ends all others inside.
        init_fd: descriptor of ``init``, which never refers to a later process with the same number.
        status: bubblewrap's own messages, which no process inside can write.
        forwarder: server of the routes out of the process's network.
    """

    process: asyncio.subprocess.Process
    init: int | None = None
    init_fd: int | None = field(default=None, repr=False)
    status: StatusPipe | None = field(default=None, repr=False)
    forwarder: Forwarder = field(default_factory=Forwarder, repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdin(self) -> asyncio.StreamWriter:
        assert self.process.stdin is not None  # noqa: S101 - for the type checker; it is always a pipe
        return self.process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None  # noqa: S101 - for the type checker; a pipe when it is read
        return self.process.stdout

    @property
    def stderr(self) -> asyncio.StreamReader:
        assert self.process.stderr is not None  # noqa: S101 - for the type checker; it is always a pipe
        return self.process.stderr

    async def wait(self) -> int:
        """Wait for the end and return the exit code, which is 128 plus the signal's number as in a shell."""
        code = await self.process.wait()
        return code if code >= 0 else 128 - code

    def roots(self) -> set[int]:
        """Return the host's numbers of this process and its init, without those that have ended."""
        found = {self.pid} if self.process.returncode is None else set()
        if self.init is not None and self.init_fd is not None and _is_alive(self.init_fd):
            found.add(self.init)
        return found

    def kill(self) -> None:
        """Kill all processes inside; bubblewrap's process on the host then ends by itself and leaves no zombie."""
        with suppress(ProcessLookupError):
            if self.init_fd is not None and _is_alive(self.init_fd):
                signal.pidfd_send_signal(self.init_fd, signal.SIGKILL)
            elif self.process.returncode is None:
                self.process.kill()

    async def was_set_up(self) -> bool:
        """Tell whether a process that has ended was started at all; bubblewrap then reports its exit code."""
        return self.status is None or b'"exit-code"' in await self.status.rest()

    def forget(self) -> None:
        """Close the descriptors and pipes of a process that has ended."""
        self.forwarder.close()
        if self.status is not None:
            self.status.close()
        if self.init_fd is not None:
            os.close(self.init_fd)
            self.init_fd = None
        # asyncio closes a pipe only after it was read to its end, and has no public method for closing it early.
        self.process._transport.close()  # type: ignore[attr-defined]  # the stubs leave it out


def _is_alive(pidfd: int) -> bool:
    # A pidfd becomes readable when the process has ended, even before its parent has waited for it.
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def inspect_host() -> SandboxHost:
    """Return the facts about this machine that the plan needs."""
    links = {name: _link_target(Path(name)) for name in plan.SYSTEM_DIRS if Path(name).exists()}
    bwrap, setpriv = (shutil.which(program, path=TOOLS) for program in ("bwrap", "setpriv"))
    machine = os.uname().machine
    return SandboxHost(
        root=os.geteuid() == 0,
        links=links,
        bwrap=bwrap,
        setpriv=setpriv,
        cgroup_namespaces=Path("/proc/self/ns/cgroup").exists(),
        masked=tuple(name for name in plan.MASKED_FILES if Path(name).exists()),
        etc_directories=tuple(name for name in plan.ETC_PATHS if Path(name).is_dir()),
        system_calls=seccomp.program(machine) if machine in seccomp.AUDIT_ARCH else None,
    )


def _link_target(path: Path) -> str | None:
    return str(path.readlink()) if path.is_symlink() else None


async def spawn_isolated(
    config: SandboxConfig,
    host: SandboxHost,
    agent_dir: Path,
    launch: Launch,
    confine: Callable[[SandboxedProcess], None],
) -> SandboxedProcess:
    """Start a process in bubblewrap.

    Args:
        confine: called while the process is complete but still waiting, so that no code of the agent ever runs outside
            of its groups and limits.

    Raises:
        JobError: ``sandbox_failed``, with bubblewrap's reason.
    """
    with ExitStack() as ours, ExitStack() as theirs:
        try:
            started, release = await _start_waiting(config, host, agent_dir, launch, ours, theirs)
        except OSError as error:
            raise setup_failure(f"bubblewrap cannot be started: {error}".encode()) from error
        assert started.status is not None  # noqa: S101 - for the type checker; _start_waiting sets it
        try:
            text = await asyncio.wait_for(started.status.first(), START_TIMEOUT_S)
            started.init = int(json.loads(text)["child-pid"])
            started.init_fd = os.pidfd_open(started.init)
            confine(started)
            if config.own_network:
                listeners = listen_inside(started.init, [(route.address, route.port) for route in launch.routes])
                await started.forwarder.serve(listeners, launch.routes)
            os.write(release, b"\n")
        except (TimeoutError, EOFError, ValueError, KeyError, OSError) as error:
            # Closing our end of the pipe would release the waiting process, so kill it first.
            signal_all(process_tree.descendants(process_tree.snapshot(), started.roots()), signal.SIGKILL)
            stderr = await started.stderr.read(CHUNK)
            await started.wait()
            started.forget()
            raise setup_failure(stderr or str(error).encode()) from error
    return started


async def _start_waiting(
    config: SandboxConfig, host: SandboxHost, agent_dir: Path, launch: Launch, ours: ExitStack, theirs: ExitStack
) -> tuple[SandboxedProcess, int]:
    """Start bubblewrap, which waits before it runs the command.

    Args:
        ours: closes our descriptors when the start is complete or has failed.
        theirs: closes the descriptors that only bubblewrap needs.

    Returns:
        The process, and the descriptor by which a written byte releases it.
    """
    system_calls = _memory_file(theirs, host.system_calls or b"")
    (status, status_end), (block_end, release) = os.pipe(), os.pipe()
    pipe = StatusPipe(status)
    ours.callback(os.close, release)
    for end in (status_end, block_end):
        theirs.callback(os.close, end)
    fds = Descriptors(status_end, block_end, system_calls)
    wanted = plan.options(config, host, agent_dir, launch.mounts, launch.env, launch.cwd, fds)
    arguments = _memory_file(theirs, "".join(f"{option}\0" for option in wanted).encode())
    inherited = (status_end, block_end, system_calls, arguments)
    try:
        process = await asyncio.create_subprocess_exec(
            str(host.bwrap), "--args", str(arguments), "--", *plan.command(config, host, launch.argv),
            stdin=asyncio.subprocess.PIPE, stdout=launch.stdout, stderr=asyncio.subprocess.PIPE, limit=STREAM_LIMIT,
            env={}, cwd="/", start_new_session=True, pass_fds=inherited,
        )  # fmt: skip
    except OSError:
        pipe.close()
        raise
    theirs.close()
    return SandboxedProcess(process, status=pipe), release


def setup_failure(stderr: bytes) -> JobError:
    """Return the error of a sandbox that could not be set up, from bubblewrap's last line."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else "it gave no reason"
    if "loopback: Failed" in reason:
        reason += NO_NETWORK_HINT
    message = f"The sandbox could not be set up on this shard; ask an operator to check it: {reason}"
    return JobError("sandbox_failed", message, retryable=True)


async def spawn_plain(launch: Launch, host_paths: Mapping[str, str]) -> SandboxedProcess:
    """Start a process without a sandbox, in a session of its own, with the sandbox's paths translated.

    Raises:
        JobError: ``command_missing``.
    """
    env = {name: plan.to_host_paths(value, host_paths) for name, value in {**BASE_ENV, **launch.env}.items()}
    try:
        process = await asyncio.create_subprocess_exec(
            *(plan.to_host_paths(argument, host_paths) for argument in launch.argv),
            stdin=asyncio.subprocess.PIPE, stdout=launch.stdout, stderr=asyncio.subprocess.PIPE, limit=STREAM_LIMIT,
            env=env, cwd=plan.to_host_paths(launch.cwd, host_paths), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        message = f"'{launch.argv[0]}' cannot be started on this shard; ask an operator to install it: {error}"
        raise JobError("command_missing", message) from error
    return SandboxedProcess(process)


def _memory_file(stack: ExitStack, content: bytes) -> int:
    """Write bytes to a memory file, which only processes with its descriptor can read; return the descriptor."""
    descriptor = os.memfd_create("sandbox")
    stack.callback(os.close, descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass
class BoundedOutput:
    """Beginning of a stream that was read to its end."""

    data: bytearray = field(default_factory=bytearray)
    truncated: bool = False


async def drain(stream: asyncio.StreamReader | None, limit: int) -> BoundedOutput:
    """Read a stream to its end, so that its writer never blocks, and return the first ``limit`` bytes."""
    output = BoundedOutput()
    while stream is not None and (chunk := await stream.read(CHUNK)):
        room = limit - len(output.data)
        output.data += chunk[:room]
        output.truncated |= len(chunk) > room
    return output


async def feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    """Write all input and close the stream; a process that does not read it is no error."""
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


async def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until a condition holds, and return whether it does."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not (done := condition()):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(POLL_S)
    return done
