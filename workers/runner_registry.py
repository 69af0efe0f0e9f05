"""Registry of the shard's live runners: one small file for each, which outlives the worker that started it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from myctobot.contract.names import attempt_name


@dataclass(frozen=True)
class RunnerEntry:
    """Live runner.

    Attributes:
        pid: number of its process.
        start_time: field 22 of ``/proc/<pid>/stat``, in clock ticks since boot; it distinguishes the runner from a
            later process with the same pid.
        job_id: job that it runs.
        attempt: number of the attempt.
        slot: the shard's slot that it occupies, from 0.

    Raises:
        ValueError: job and attempt are not such values, so no path may contain them.
    """

    pid: int
    start_time: int
    job_id: str
    attempt: int
    slot: int

    def __post_init__(self) -> None:
        attempt_name(self.job_id, self.attempt)

    @property
    def name(self) -> str:
        return attempt_name(self.job_id, self.attempt)

    def is_alive(self) -> bool:
        return process_start_time(self.pid) == self.start_time


def process_start_time(pid: int) -> int | None:
    """Return the start time of a process (see ``RunnerEntry``), or None when it has ended or is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command's name in parentheses. It may contain any character, also spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


class Registry:
    """Directory with a file for each live runner.

    Args:
        path: the directory; it is created when it is missing, readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, job_id: str, attempt: int, slot: int) -> RunnerEntry:
        """Register the calling process."""
        pid = os.getpid()
        entry = RunnerEntry(pid, process_start_time(pid) or 0, job_id, attempt, slot)
        # Rename a complete file, so that a reader never sees half of one.
        draft = self._path / f".{pid}.tmp"
        try:
            draft.write_text(json.dumps(asdict(entry)))
            draft.rename(self._file(entry))
        except OSError:
            # On a full disk, each attempt would leave a draft.
            draft.unlink(missing_ok=True)
            raise
        return entry

    def remove(self, entry: RunnerEntry) -> None:
        self._file(entry).unlink(missing_ok=True)

    def live(self) -> list[RunnerEntry]:
        """Return the runners that are alive, and remove the files of the others."""
        return self.scan()[0]

    def scan(self) -> tuple[list[RunnerEntry], list[RunnerEntry]]:
        """Return the live runners and the dead ones whose files were left, and remove the files of the dead.

        A runner that ends by itself removes its file, so each dead one was killed or failed before its report.
        """
        found, dead = [], []
        for file in sorted(self._path.glob("*.json")):
            try:
                entry = RunnerEntry(**json.loads(file.read_text()))
            except (FileNotFoundError, ValueError, TypeError):
                file.unlink(missing_ok=True)
                continue
            if entry.is_alive():
                found.append(entry)
            else:
                file.unlink(missing_ok=True)
                dead.append(entry)
        return found, dead

    def _file(self, entry: RunnerEntry) -> Path:
        return self._path / f"{entry.name}.{entry.pid}.json"
