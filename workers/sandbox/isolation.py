"""Isolation of a shard's agents: the worker decides it once, at its start, and no job of the shard gets less.

The files are in the shard's ``run_path``. No agent in a sandbox sees them.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from myctobot.contract.shards import IsolationKind
from workers.errors import JobError
from workers.sandbox import disk_image
from workers.sandbox.plan import SandboxConfig
from workers.sandbox.process import setup_failure
from workers.sandbox.sandbox import Sandbox

DECISION: Final = "isolation"
PROBLEM: Final = "sandbox-problem"
MAX_PROBLEM: Final = 400
PROBE_TIMEOUT_S: Final = 30
# Nothing connects to it.
NO_GATEWAY: Final = "http://127.0.0.1:9"


class SandboxRefused(Exception):
    """Shard must not start: it cannot isolate its agents as its configuration or its earlier decision demands."""


@dataclass(frozen=True)
class Isolation:
    """Protection that every agent of a shard gets.

    Attributes:
        kind: with or without a sandbox.
        groups: what control groups do for each agent, by the names in ``limits.Groups.abilities``.
        problem: reason for the lack of a sandbox; empty with one.
        disk_images: each job has a file system with bounds of its own.
        disk_problem: reason for the lack of disk images; empty with them.
    """

    kind: IsolationKind
    groups: frozenset[str] = frozenset()
    problem: str = ""
    disk_images: bool = False
    disk_problem: str = ""

    def apply(self, config: SandboxConfig) -> SandboxConfig:
        """Return the configuration of one job's sandbox with this isolation."""
        return replace(config, isolated=self.kind is IsolationKind.SANDBOX, groups=self.groups)


def decide(
    config: SandboxConfig, workspaces: Path, run_path: Path, *, allow_unsandboxed: bool, earlier: Isolation | None
) -> Isolation:
    """Test this machine and return the isolation of every job until the next start.

    Call it only where no event loop runs.

    Args:
        config: limits and user of an agent; its ``isolated`` and ``groups`` are ignored.
        workspaces: folder of the jobs.
        run_path: folder of the shard's state.
        allow_unsandboxed: the operator accepts agents without a sandbox.
        earlier: decision of an earlier start of this shard.

    Raises:
        SandboxRefused: there is no sandbox and none may be missing, or the protection is less than earlier.
    """
    groups, problem = probe(replace(config, isolated=True, groups=frozenset()))
    if problem and not allow_unsandboxed:
        raise SandboxRefused(problem)
    found = Isolation(IsolationKind.SANDBOX, groups)
    if not problem:
        disk_problem = disk_image.probe(workspaces, run_path, config.limits)
        found = replace(found, disk_images=not disk_problem, disk_problem=disk_problem)
    else:
        groups, failure = probe(replace(config, isolated=False, groups=frozenset()))
        if failure:
            raise SandboxRefused(failure)
        # An agent that is not isolated can write anywhere, so an image would bound nothing.
        found = Isolation(IsolationKind.NONE, groups, problem, disk_problem="agents are not isolated")
    if earlier is not None:
        _refuse_less(found, earlier)
    return found


def _refuse_less(found: Isolation, earlier: Isolation) -> None:
    hint = "repair it, or remove the file 'isolation' in the shard's run_path to accept less"
    if earlier.kind is IsolationKind.SANDBOX and found.kind is IsolationKind.NONE:
        raise SandboxRefused(f"this shard had a sandbox at its last start and has none now; {hint}: {found.problem}")
    if lost := earlier.groups - found.groups:
        names = ", ".join(sorted(lost))
        raise SandboxRefused(f"this shard had control groups for {names} at its last start; {hint}.")
    if earlier.disk_images and not found.disk_images:
        raise SandboxRefused(f"this shard had disk images at its last start; {hint}: {found.disk_problem}.")


def probe(config: SandboxConfig) -> tuple[frozenset[str], str]:
    """Run a command as an agent would.

    Call it only where no event loop runs.

    Args:
        config: configuration of an agent.

    Returns:
        What its control groups did, and the reason why it failed; empty if it succeeded.
    """
    return asyncio.run(_probe(config))


async def _probe(config: SandboxConfig) -> tuple[frozenset[str], str]:
    groups: frozenset[str] = frozenset()
    with TemporaryDirectory(prefix="sandbox-check-") as directory:
        sandbox: Sandbox | None = None
        try:
            sandbox = Sandbox(config, Path(directory))
            groups = sandbox.group_abilities
            done = await sandbox.run(["true"], timeout_s=PROBE_TIMEOUT_S)
            problem = "" if done.returncode == 0 else str(setup_failure(done.stderr))
            if not problem and sandbox.has_own_network:
                # An agent also needs listeners in its network, which are made from outside.
                agent = await sandbox.start(["true"], env={}, gateway_url=NO_GATEWAY)
                if await asyncio.wait_for(agent.wait(), PROBE_TIMEOUT_S) != 0:
                    problem = str(setup_failure(await agent.stderr.read(MAX_PROBLEM)))
        except (JobError, OSError) as error:
            return groups, str(error) or "the test took too long"
        finally:
            if sandbox is not None:
                await sandbox.close()
    return groups, problem


def check(config: SandboxConfig) -> str | None:
    """Return the reason why this machine cannot isolate an agent as configured, or None; see ``probe``."""
    return probe(config)[1] or None


# --- Files of a shard ------------------------------------------------------------------------------


def store(run_path: Path, isolation: Isolation) -> None:
    """Record the decision of this start, and forget the problems of an earlier one."""
    values = {
        "kind": isolation.kind.value,
        "groups": sorted(isolation.groups),
        "problem": isolation.problem,
        "disk_images": isolation.disk_images,
        "disk_problem": isolation.disk_problem,
    }
    _replace_file(run_path / DECISION, json.dumps(values))
    clear_problem(run_path)


def load(run_path: Path) -> Isolation | None:
    """Return the recorded decision, or None before the first start.

    Raises:
        SandboxRefused: the file is damaged, so that the earlier decision is unknown.
    """
    try:
        values: dict[str, Any] = json.loads((run_path / DECISION).read_text())
        return Isolation(
            IsolationKind(values["kind"]),
            frozenset(values["groups"]),
            str(values["problem"]),
            # Workers of earlier releases recorded neither.
            disk_images=values.get("disk_images") is True,
            disk_problem=str(values.get("disk_problem", "")),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SandboxRefused(f"the file {run_path / DECISION} is damaged ({error}); remove it.") from error


def load_for_job(run_path: Path) -> Isolation:
    """Return the recorded decision for a job.

    Raises:
        JobError: ``sandbox_failed``, the worker has recorded none.
    """
    try:
        found = load(run_path)
    except SandboxRefused as error:
        raise JobError("sandbox_failed", f"This shard's isolation is unknown: {error}", retryable=True) from error
    if found is None:
        message = "This shard has not decided how it isolates agents; ask an operator to restart its worker."
        raise JobError("sandbox_failed", message, retryable=True)
    return found


def report_problem(run_path: Path, reason: str) -> None:
    """Record that a sandbox failed; the worker tells the control plane and takes no jobs until it works again."""
    _replace_file(run_path / PROBLEM, reason[:MAX_PROBLEM])


def read_problem(run_path: Path) -> str:
    """Return the reason of the last failure, or an empty text when the sandbox works."""
    try:
        return (run_path / PROBLEM).read_text(errors="replace")[:MAX_PROBLEM] or "unknown"
    except FileNotFoundError:
        return ""


def clear_problem(run_path: Path) -> None:
    (run_path / PROBLEM).unlink(missing_ok=True)


def _replace_file(path: Path, text: str) -> None:
    # Rename a complete file, so that a reader never sees half of one.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)
