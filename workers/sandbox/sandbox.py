"""Sandbox of a job: its processes share a view of files, limits and a certain end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from myctobot.contract.runner import CancelProof
from workers.errors import JobError
from workers.sandbox import limit_errors, process_tree
from workers.sandbox.folders import make_folders
from workers.sandbox.forwarding import job_routes
from workers.sandbox.limits import MB, ResourceLimits, apply_rlimits, create_groups, require_abilities
from workers.sandbox.memory_use import used_bytes
from workers.sandbox.plan import HOME, WORKSPACE, Mount, SandboxConfig, missing_protection
from workers.sandbox.process import (
    POLL_S,
    Completed,
    Launch,
    SandboxedProcess,
    drain,
    feed,
    inspect_host,
    setup_failure,
    signal_all,
    spawn_isolated,
    spawn_plain,
    until,
)

__all__ = [
    "HOME",
    "WORKSPACE",
    "Completed",
    "Mount",
    "ResourceLimits",
    "Sandbox",
    "SandboxConfig",
    "SandboxedProcess",
]  # fmt: skip

KILL_TIMEOUT_S: Final = 10
FREEZE_TIMEOUT_S: Final = 5
# Each try gets an equal part of the time.
FREEZE_TRIES: Final = 5
WATCH_EVERY_S: Final = 0.5
# Processes of bubblewrap and their threads, which may belong to the agent's user or not.
MAX_SETUP: Final = 4
PR_SET_CHILD_SUBREAPER: Final = 36


class Sandbox:
    """Sandbox of one job.

    The agent's user owns ``job_dir/agent``, which contains ``repo`` (seen as /workspace) and ``home`` (seen as
    /home/agent). Other files in ``job_dir`` are invisible inside unless they are mounted.

    Raises:
        JobError: ``sandbox_failed``, the machine gives less protection than the configuration requires.
    """

    def __init__(self, config: SandboxConfig, job_dir: Path) -> None:
        self.config = config
        # With isolation, every later process has these too.
        self.shared_mounts: Sequence[Mount] = ()
        self.host = inspect_host()
        # Nothing is tried here: a failure must never be a reason for less isolation.
        self.isolated = config.isolated
        if self.isolated and (problem := missing_protection(self.host)):
            raise JobError("sandbox_failed", problem, retryable=True)
        self.agent_dir = job_dir.absolute() / "agent"
        make_folders(self.agent_dir, config, self.host)
        own = process_tree.read(os.getpid())
        self._since = own.started if own else 0
        self._groups = require_abilities(create_groups(config.limits, self._since), config.groups)
        self._live: list[SandboxedProcess] = []
        self._watchdog: asyncio.Task[None] | None = None
        self._watchdog_kills = 0
        self._processes_reached = False
        self._earlier_children: set[tuple[int, int]] = set()
        if not self.isolated:
            # Earlier children of this process are not orphans of the agent.
            children = (p for p in process_tree.snapshot().values() if p.parent == os.getpid())
            self._earlier_children = {(p.pid, p.started) for p in children}
            # Without a PID namespace, init would adopt the agent's orphans. Adopt them here to be able to kill them.
            if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
                message = "This shard cannot adopt the agent's orphans, so it could not end them all."
                raise JobError("sandbox_failed", message, retryable=True)

    @property
    def group_abilities(self) -> frozenset[str]:
        """Names of what this sandbox's control groups do; see ``limits.Groups.abilities``."""
        return self._groups.abilities

    def describe(self) -> str:
        """Return one line that describes the agent's isolation."""
        if not self.isolated:
            return "WARNING: NOTHING IS ISOLATED. The agent runs without a sandbox, as the shard's own user."
        user = f"as user {self.config.agent_uid}" if self.host.root else "in a user namespace"
        memory = "a control group" if self._groups.limits_memory else "a watchdog"
        network = "own network" if self.has_own_network else "the shard's network"
        return f"bubblewrap, {user}, {network}; memory limited by {memory} to {self.config.limits.memory_mb} MB"

    def host_paths(self, mounts: Sequence[Mount] = ()) -> dict[str, str]:
        """Return the host's path for each path of the sandbox; empty with isolation, where no path is translated."""
        if self.isolated:
            return {}
        own = {WORKSPACE: str(self.agent_dir / "repo"), HOME: str(self.agent_dir / "home")}
        return own | {mount.target: str(mount.source) for mount in mounts}

    # --- Starting ----------------------------------------------------------------------------------

    async def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str = WORKSPACE,
        mounts: Sequence[Mount] = (),
        gateway_url: str | None = None,
    ) -> SandboxedProcess:
        """Start a process as the agent's user; see ``Launch`` for the other arguments.

        Args:
            gateway_url: gateway that the process may reach. In a network of its own, the process also reaches the
                filtering proxy and the configured addresses, and its environment names the addresses inside.

        Raises:
            JobError: ``sandbox_failed``, with bubblewrap's reason.
        """
        if gateway_url is None or not self.has_own_network:
            return await self._spawn(Launch(argv, env, cwd, mounts))
        routes, inside = job_routes(gateway_url, self.config.proxy_url, self.config.addresses)
        return await self._spawn(Launch(argv, {**env, **inside}, cwd, mounts, routes))

    @property
    def has_own_network(self) -> bool:
        """Tell whether processes have a network of their own, without a way out but the given ones."""
        return self.isolated and self.config.own_network

    async def _spawn(self, launch: Launch) -> SandboxedProcess:
        # A start that is cancelled halfway would leave an unknown process, so finish it and then end the process.
        starting = asyncio.create_task(self._spawn_known(launch))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await self._end(await starting)
            raise

    async def _spawn_known(self, launch: Launch) -> SandboxedProcess:
        if self.isolated:
            launch = replace(launch, mounts=tuple(dict.fromkeys((*self.shared_mounts, *launch.mounts))))
            started = await spawn_isolated(self.config, self.host, self.agent_dir, launch, self._confine)
        else:
            started = await spawn_plain(launch, self.host_paths(launch.mounts))
            self._live.append(started)
            await self._confine_plain(started)
        if self._watchdog is None and not (self._groups.limits_memory and self._groups.limits_processes):
            self._watchdog = asyncio.create_task(self._watch_limits())
        return started

    async def _confine_plain(self, started: SandboxedProcess) -> None:
        try:
            # A process that has ended needs no limits.
            with suppress(ProcessLookupError):
                self._groups.add(started.pid)
            apply_rlimits(started.pid, self.config.limits, self._groups)
        except OSError as error:
            await self._end(started)
            message = f"The agent's limits could not be set on this shard; ask an operator to check it: {error}"
            raise JobError("sandbox_failed", message, retryable=True) from error

    def _confine(self, started: SandboxedProcess) -> None:
        self._live.append(started)
        for pid in started.roots():
            self._groups.add(pid)
        apply_rlimits(started.init or started.pid, self.config.limits, self._groups)

    # --- Running a command to its end --------------------------------------------------------------

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = WORKSPACE,
        mounts: Sequence[Mount] = (),
        stdin: bytes = b"",
        stdout_file: BinaryIO | None = None,
        max_output: int = 4 * MB,
        timeout_s: float = 120,
    ) -> Completed:
        """Run a short command as the agent's user, and end all processes that it started.

        Args:
            argv, env, cwd, mounts: see ``Launch``.
            stdin: input of the command.
            stdout_file: file that receives the output instead of the result.
            max_output: bytes to keep of each stream; the rest is read and dropped.
            timeout_s: seconds after which the command is ended.

        Raises:
            JobError: ``command_timeout``, ``agent_out_of_memory`` or ``sandbox_failed``.
        """
        output = stdout_file if stdout_file is not None else asyncio.subprocess.PIPE
        before = self._memory_kills()
        started = await self._spawn(Launch(argv, env or {}, cwd, mounts, stdout=output))
        try:
            async with asyncio.timeout(timeout_s):
                out, err, code, _ = await asyncio.gather(
                    drain(started.process.stdout, max_output),
                    drain(started.stderr, max_output),
                    started.wait(),
                    feed(started.stdin, stdin),
                )
                set_up = await started.was_set_up()
        except TimeoutError as error:
            message = f"The command '{' '.join(argv[:2])}' took longer than {timeout_s:g} s and was ended; try again."
            raise JobError("command_timeout", message, retryable=True) from error
        finally:
            await self._end(started)
        if problem := self.memory_error(code, before):
            raise problem
        # A part of bubblewrap's setup happens after it was released. The command itself could write the same text.
        if not set_up and code == 1:
            raise setup_failure(bytes(err.data))
        return Completed(code, bytes(out.data), bytes(err.data), out.truncated or err.truncated)

    async def _end(self, started: SandboxedProcess) -> None:
        """Kill the rest of one process's tree and forget the process."""
        if not self.isolated:
            processes = process_tree.snapshot()
            session = {pid for pid, info in processes.items() if info.session == started.pid}
            signal_all(process_tree.descendants(processes, started.roots() | session), signal.SIGKILL)
        started.kill()
        with suppress(TimeoutError):
            await asyncio.wait_for(started.wait(), KILL_TIMEOUT_S)
        if await until(lambda: not started.roots(), KILL_TIMEOUT_S):
            self._forget(started)

    def _forget(self, started: SandboxedProcess) -> None:
        started.forget()
        if started in self._live:
            self._live.remove(started)

    def _memory_kills(self) -> tuple[int, int]:
        return self._watchdog_kills, self._groups.memory_kills()

    def memory_error(self, returncode: int, before: tuple[int, int] = (0, 0)) -> JobError | None:
        """Return the error when the memory limit ended a process with this exit code, else None.

        Args:
            before: kills by the watchdog and the kernel before the process started, which were others'.
        """
        watchdog, kernel = self._memory_kills()
        is_ended = watchdog > before[0] or (returncode == 128 + signal.SIGKILL and kernel > before[1])
        return limit_errors.out_of_memory(self.config.limits) if is_ended else None

    def process_error(self, returncode: int) -> JobError | None:
        """Return the error when a process with this exit code ended after the limit of processes was reached."""
        is_reached = self._processes_reached or self._groups.refused_processes() > 0
        return limit_errors.process_limit(self.config.limits, returncode) if is_reached and returncode != 0 else None

    # --- The certain end ---------------------------------------------------------------------------

    def _bwrap_pids(self) -> set[int]:
        """Return bubblewrap's own processes, which are not the agent's."""
        return {pid for started in self._live if started.init is not None for pid in started.roots()}

    def _members(self) -> dict[int, process_tree.ProcessInfo]:
        """Return every live process of the sandbox, including bubblewrap's own."""
        processes = process_tree.snapshot()
        found = process_tree.descendants(processes, {pid for started in self._live for pid in started.roots()})
        found |= self._groups.pids() & processes.keys()
        if not self.isolated:
            # A child that started before its parent joined the groups is not in them. As an orphan it is our child.
            own = processes[os.getpid()]
            orphans = {
                p.pid
                for p in processes.values()
                if p.parent == own.pid and p.session != own.session and (p.pid, p.started) not in self._earlier_children
            }
            found |= process_tree.descendants(processes, orphans)
        return {pid: processes[pid] for pid in found if processes[pid].alive}

    async def kill_all(self) -> CancelProof:
        """Kill every process of the sandbox and return the proof.

        When the first process of a PID namespace ends, the kernel ends all others, and the first is gone only after
        them. Therefore no new session, double fork, ignored signal or fork bomb escapes.
        """
        with suppress(JobError):
            # A frozen process tree cannot grow while it is counted.
            await self.freeze()
        seen: set[int] = set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + KILL_TIMEOUT_S
        while (members := self._members()) and loop.time() < deadline:
            seen |= members.keys() - self._bwrap_pids()
            for started in self._live:
                started.kill()
            self._groups.kill()
            if not self.isolated:
                signal_all(members, signal.SIGKILL)
            # With version 1 of the groups, only a thawed process receives the signal.
            self._groups.set_frozen(False)
            await asyncio.sleep(POLL_S)
        self._groups.set_frozen(False)
        left = set(self._members())
        if self.isolated and self.host.root:
            left |= process_tree.unconfined(self.config.agent_uid, self._since)
        for started in self._live:
            with suppress(TimeoutError):
                await asyncio.wait_for(started.wait(), 1)
        checked_at = datetime.now(UTC).isoformat()
        return {"processes_killed": len(seen - left), "processes_left": len(left), "checked_at": checked_at}

    async def freeze(self) -> None:
        """Stop every process of the sandbox where it is; memory and connections remain.

        Raises:
            JobError: ``freeze_failed``, some processes still run after five seconds.
        """
        if self._groups.can_freeze:
            done = await self._freeze_groups()
        else:
            done = await until(self._stop_members, FREEZE_TIMEOUT_S)
        if not done:
            raise JobError("freeze_failed", "The agent could not be frozen, so it must be ended.", retryable=True)

    async def _freeze_groups(self) -> bool:
        # A process that appears during the freeze can keep a group of version 1 half frozen. Only a new try ends that.
        for number in range(FREEZE_TRIES):
            if number:
                self._groups.set_frozen(False)
            self._groups.set_frozen(True)
            if await until(self._groups.is_frozen, FREEZE_TIMEOUT_S / FREEZE_TRIES):
                return True
        return False

    def _stop_members(self) -> bool:
        # Do not stop bubblewrap's process on the host: it only waits, and asyncio must see its end as usual.
        waiting = {started.pid for started in self._live if started.init is not None}
        running = {pid for pid, info in self._members().items() if not info.stopped} - waiting
        signal_all(running, signal.SIGSTOP)
        return not running

    async def thaw(self) -> None:
        """Let a frozen sandbox continue."""
        self._groups.set_frozen(False)
        if not self._groups.can_freeze:
            signal_all(self._members(), signal.SIGCONT)

    async def close(self) -> None:
        """Kill the remaining processes and remove the control groups; the method may be called again."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if self._live or self._groups.pids():
            await self.kill_all()
        for started in list(self._live):
            self._forget(started)
        await until(self._groups.remove, KILL_TIMEOUT_S)

    async def _watch_limits(self) -> None:
        """Watch what no control group limits: enforce the memory limit, and notice that of the processes."""
        limit = self.config.limits.memory_mb * MB
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            # The kernel enforces this limit for the user, and counts threads, but does not report it.
            if (
                not self._groups.limits_processes
                and process_tree.threads(self._members()) >= self.config.limits.processes - MAX_SETUP
            ):
                self._processes_reached = True
            if not self._groups.limits_memory and self._memory_used() > limit:
                self._watchdog_kills += 1
                await self.kill_all()

    def _memory_used(self) -> int:
        inits = [started.init for started in self._live if started.init is not None and started.init in started.roots()]
        try:
            return used_bytes(self._members().keys() - self._bwrap_pids(), inits)
        except PermissionError:
            # Memory that cannot be measured cannot be limited either.
            return sys.maxsize
