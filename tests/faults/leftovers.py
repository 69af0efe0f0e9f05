"""Leftovers of a stack whose jobs have all ended: rows, messages, processes, workspaces, disks and control groups."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg

from tests.faults.effects import World
from tests.faults.injection import broker_connection
from tests.faults.random_injection import database_url, live_runners
from tests.fixtures.repos import branches
from workers.sandbox.limits import group_bases

_UNACKED_S = 60
# Each statement counts rows that no ended job and no idle stack has.
_LEFT_ROWS = {
    "unfinished jobs": "SELECT count(*) FROM jobs_job WHERE status IN ('queued', 'running')",
    "live attempts": "SELECT count(*) FROM jobs_attempt WHERE state IN ('sent', 'running') OR ended_at IS NULL",
    "gateway tokens": "SELECT count(*) FROM jobs_attempt WHERE gateway_token_hash IS NOT NULL",
    "encrypted secrets": "SELECT count(*) FROM jobs_job WHERE sealed IS NOT NULL",
    "waiting callbacks": "SELECT count(*) FROM jobs_callback WHERE state <> 'delivered'",
    "open transactions": "SELECT count(*) FROM pg_stat_activity"
    " WHERE state LIKE 'idle in transaction%%' AND now() - xact_start > interval '20 s'",
}


def find_leftovers(place: World, workspaces: Iterable[Path], runners: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """Return what is left although no job needs it.

    Args:
        workspaces: folders of the shards' workspaces.
        runners: pid and start time of every runner that was seen.
    """
    folders = list(workspaces)
    return (
        *_rows(place),
        *_messages(place),
        *_processes(place, folders),
        *(f"the workspace {path.name}" for folder in folders for path in sorted(folder.glob("job_*"))),
        *_loop_devices(folders),
        *_control_groups(runners),
    )


def find_stray_branches(place: World, names: Iterable[str]) -> tuple[str, ...]:
    """Return the branches that exist in addition to ``names`` of the jobs."""
    return tuple(f"the branch {name} of no job" for name in sorted(branches(place.remote).keys() - {"main", *names}))


def _rows(place: World) -> Iterator[str]:
    with psycopg.connect(database_url(place.client)) as connection:
        for name, statement in _LEFT_ROWS.items():
            row = connection.execute(statement).fetchone()
            if row and row[0]:
                yield f"{row[0]} {name}"


def _messages(place: World) -> Iterator[str]:
    """Find messages in the queues of shards, and those that a worker took and never acknowledged."""
    with broker_connection(place.client) as connection:
        for key in sorted(connection.scan_iter("*.*", count=1000)):
            if key.startswith((b"cap.", b"shard.")) and connection.type(key) == b"list":
                yield f"{connection.llen(key)} messages in {key.decode()}"
        # The score is the time at which it was taken. The control worker always has some of the last seconds.
        if count := connection.zcount("unacked_index", "-inf", time.time() - _UNACKED_S):
            yield f"{count} messages without an acknowledgement"


def _processes(place: World, workspaces: list[Path]) -> Iterator[str]:
    """Find live runners, agents, and more runners than the spare one of each shard."""
    for name, config in place.client.stack.shards.items():
        yield from (f"the runner of {entry.name} on {name}" for entry in live_runners(place.client, name))
        spares = [pid for pid, line in _command_lines() if line[1:4] == ["-m", "workers.runner", str(config)]]
        if len(spares) > 1:
            yield f"{len(spares)} runners without a job on {name}"
    for pid, line in _command_lines():
        if any(f"{folder}/job_" in argument for folder in workspaces for argument in line):
            yield f"the process {pid} of a job: {' '.join(line)[:200]}"


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if text := (path / "cmdline").read_bytes():
                yield int(path.name), text.decode(errors="replace").split("\0")


def _loop_devices(workspaces: list[Path]) -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            file = path.read_text().strip()
            if any(file.startswith(f"{folder}/") for folder in workspaces):
                yield f"the loop device of {file}"


def _control_groups(runners: Iterable[tuple[int, int]]) -> Iterator[str]:
    bases = group_bases(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    for pid, started in runners:
        for base in set(bases.values()):
            yield from (f"the control group {path}" for path in base.glob(f"agent-{pid}-{started}-*"))
