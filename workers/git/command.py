"""Git commands of the runner's user: with a fixed environment and configuration, in bounds."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workers.errors import JobError
from workers.git.confinement import NOT_CONFINED, Confinement
from workers.git.process import MAX_STDOUT, PATH, OnLine, Result, last_line, run_process
from workers.git.trace import GitTrace, Limit, open_trace, trace_of_messages
from workers.sandbox.limits import ResourceLimits

LOCAL_TIMEOUT_S: Final = 120

DISK_FULL: Final = "The shard's disk is full; try again on another shard or ask the operator to free space."

# Old tools left these harmless faults in many good repositories, which must stay usable. All other faults that git's
# fsck finds are refused.
TOLERATED_FSCK: Final = (
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badName",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "nulInCommit",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)
# Since 2.39.1. git only warns about such lines and files, and does not use them.
TOLERATED_ATTRIBUTES: Final = (
    "gitattributesBlob",
    "gitattributesLarge",
    "gitattributesLineLength",
    "gitattributesMissing",
)

_CONFIG: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    # The repositories of a job end with it.
    "core.fsync=none",
    # The agent's user reads the objects.
    "core.sharedRepository=0644",
    "core.bigFileThreshold=32m",
    "core.alternateRefsCommand=true",
    # Packs are mapped in small parts, which count as address space.
    "core.packedGitWindowSize=16m",
    "core.packedGitLimit=128m",
    "core.deltaBaseCacheLimit=32m",
    "diff.renameLimit=400",
    "gc.auto=0",
    "maintenance.auto=false",
    # Threads that check objects wait for one lock, so two are slower than one.
    "pack.threads=1",
    "pack.windowMemory=64m",
    "protocol.version=2",
    "submodule.recurse=false",
    "transfer.fsckObjects=true",
    "fetch.fsckObjects=true",
    # Always keep what arrives as a pack. Unpacked, each object is held in memory and written in full.
    "transfer.unpackLimit=1",
    "fetch.unpackLimit=1",
    *(f"fetch.fsck.{name}=ignore" for name in (*TOLERATED_FSCK, *TOLERATED_ATTRIBUTES)),
)


@dataclass(frozen=True)
class Git:
    """Git with a fixed environment and configuration.

    Args:
        home: empty directory that replaces the home directory.
        config: settings ``name=value`` in addition to those of every call.
        env: variables in addition to those of every call.
        pass_fds: descriptors that git inherits.
        max_file_mb: size of the largest file that a call may write.
        confinement: bounds of all processes of git; by default those of each process alone.
        borrowed: further folders with objects that git reads; calls see folders that are added later.
    """

    home: Path
    config: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None
    pass_fds: tuple[int, ...] = ()
    max_file_mb: int = 8192
    confinement: Confinement = field(default_factory=lambda: Confinement(ResourceLimits()), repr=False)
    borrowed: list[Path] = field(default_factory=list)

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
            # Each arena of the C library reserves 64 MB of address space.
            "MALLOC_ARENA_MAX": "2",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(map(str, self.borrowed)),
            **(self.env or {}),
        }

    def command(
        self, args: Sequence[str], *, timeout_s: float = LOCAL_TIMEOUT_S, address_space_mb: int | None = None
    ) -> list[str]:
        config = [part for setting in (*_CONFIG, *self.config) for part in ("-c", setting)]
        return self.confinement.wrap(
            ["git", *config, *args],
            timeout_s=timeout_s,
            max_file_mb=self.max_file_mb,
            address_space_mb=address_space_mb,
        )

    async def run(
        self,
        args: Sequence[str],
        *,
        cwd: Path,
        timeout_s: float = LOCAL_TIMEOUT_S,
        stdin: int = asyncio.subprocess.DEVNULL,
        max_output: int = MAX_STDOUT,
        on_line: OnLine | None = None,
        address_space_mb: int | None = None,
    ) -> Result:
        """Run git and return the result, also for an exit code other than 0.

        Args:
            address_space_mb: bound of each process, in addition to the confinement.

        Raises:
            JobError: ``git_missing``, ``git_timeout`` after ``timeout_s`` seconds, an error of ``bounded``, or
                ``git_not_confined`` when git could not enter its control groups.
        """
        with self.bounded() as check:
            with open_trace() as trace:
                result = await run_process(
                    self.command(args, timeout_s=timeout_s, address_space_mb=address_space_mb),
                    env={**self.environment(), **trace.env},
                    cwd=cwd,
                    timeout_s=timeout_s,
                    stdin=stdin,
                    pass_fds=(*self.pass_fds, trace.descriptor),
                    max_output=max_output,
                    on_line=on_line,
                )
            result = dataclasses.replace(result, trace=trace.reader.result())
            check(result.returncode, result.trace)
        return result

    @contextlib.contextmanager
    def bounded(self) -> Iterator[Callable[[int, GitTrace], None]]:
        """Provide the check of an exit code and of git's errors; all processes are killed when the block ends.

        Raises:
            JobError: the check raises ``git_out_of_memory``, ``git_process_limit`` or ``git_not_confined``.
        """
        before, refused = self.confinement.memory_kills(), self.confinement.refused_processes()

        def check(returncode: int, trace: GitTrace) -> None:
            if returncode == 0:
                return
            if returncode == NOT_CONFINED:
                message = "git could not be limited on this shard; try again, or ask the operator to check it."
                raise JobError("git_not_confined", message, retryable=True)
            if self.confinement.memory_kills() > before:
                raise out_of_memory(self.confinement.memory_mb)
            if trace.limit is Limit.PROCESSES or self.confinement.refused_processes() > refused:
                raise process_limit(self.confinement.processes)
            if trace.limit is Limit.MEMORY:
                raise out_of_memory(self.confinement.memory_mb)

        try:
            yield check
        finally:
            self.confinement.kill()

    async def check(self, args: Sequence[str], *, cwd: Path, timeout_s: float = LOCAL_TIMEOUT_S) -> str:
        """Run git and return its output, stripped.

        Raises:
            JobError: ``git_failed`` when the exit code is not 0, ``disk_full`` or ``repo_too_large`` when that is the
                reason, or an error of ``run``.
        """
        result = await self.run(args, cwd=cwd, timeout_s=timeout_s)
        if result.returncode != 0:
            check_space(result.trace)
            if result.trace.limit is Limit.FILE_SIZE:
                raise JobError("repo_too_large", repo_too_large(self.max_file_mb))
            message = f"git {args[0]} failed on the shard; try again. git said: {last_line(result.stderr)}"
            raise JobError("git_failed", message, retryable=True)
        return result.text.strip()


def check_space(report: GitTrace | str) -> None:
    """Check why git failed.

    Args:
        report: errors of a git that failed, or its standard error if no remote wrote to it.

    Raises:
        JobError: ``disk_full``, git found no space.
    """
    trace = trace_of_messages(report) if isinstance(report, str) else report
    if trace.limit is Limit.DISK:
        raise JobError("disk_full", DISK_FULL, retryable=True)


def repo_too_large(max_mb: int) -> str:
    return (
        f"The repository of repo_url is larger than the {max_mb:,} MB that this shard allows (git.max_repo_mb); ask "
        "the operator to raise the limit, or use a smaller repository."
    )


def out_of_memory(memory_mb: int) -> JobError:
    return JobError(
        "git_out_of_memory",
        f"git needed more than the {memory_mb} MB of memory that this job may use and was ended; "
        "remove the largest files from the repository, or ask an operator to raise the shard's memory limit.",
    )


def process_limit(processes: int) -> JobError:
    return JobError(
        "git_process_limit",
        f"git could not start another process, because the limit of {processes} processes (sandbox.processes) was "
        "reached; try again, or ask an operator to raise the limit.",
        retryable=True,
    )
