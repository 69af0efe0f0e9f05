"""Keeper of an agent's work: it collects what the agent did, and stores it with the job at the control plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from myctobot.contract.jobs import EventKind
from myctobot.contract.work import WorkFile, WorkManifest
from workers.errors import JobError
from workers.git.workspace import Workspace
from workers.runner.attempt_calls import AttemptCalls
from workers.runner.events import EventStream
from workers.runner.reserved_room import ReservedRoom

_NO_ROOM: Final = frozenset({"disk_full", "disk_limit"})
KEPT: Final = "The agent's work is kept with the job: download it as a patch or a bundle, or push it."


class WorkKeeper:
    """Keeper of the work of one attempt.

    Args:
        workspace: repository of the job, with the checkout that the agent got.
        directory: existing folder of the runner for the files.
        max_mb: bound of the files together; 0 keeps none.
        room: is released for the work of an attempt that does not end well.
    """

    def __init__(
        self,
        workspace: Workspace,
        calls: AttemptCalls,
        events: EventStream,
        directory: Path,
        max_mb: int,
        room: ReservedRoom | None = None,
    ) -> None:
        self._workspace, self._calls, self._events = workspace, calls, events
        self._directory, self._max_mb, self._room = directory, max_mb, room
        # Whether the work is stored, and whether its agent ended well.
        self.is_kept = self.is_ready = False

    async def keep(self, result: dict[str, Any], *, ready: bool) -> None:
        """Store what was collected; a problem becomes a warning, because the push does not depend on it.

        Args:
            result: result of the job, should the push succeed.
            ready: whether the agent ended well, so that only the push is missing.

        Raises:
            AttemptFenced: the attempt is no longer the job's current one.
        """
        try:
            await self._store(result, ready=ready)
        except (JobError, OSError) as error:
            await self._warn(str(error))

    async def salvage(self, message: str) -> str:
        """Collect and store the work of an attempt that does not end well.

        Args:
            message: message of the commit of files that the agent did not commit.

        Returns:
            A sentence for the job's error; an empty text if the agent changed nothing.

        Raises:
            JobError, OSError: the work cannot be collected or stored.
            AttemptFenced: the attempt is no longer the job's current one.
        """
        if not self.is_kept:
            if not self._workspace.has_work:
                await self._collect(message)
            if not self._workspace.has_work:
                return ""
            await self._store({}, ready=False)
        return KEPT if self.is_kept else ""

    async def _collect(self, message: str) -> None:
        self._release_room()
        problem = None
        try:
            await self._workspace.commit_leftovers(message)
        except JobError as error:
            problem = error
        # What the agent committed is worth keeping without the rest, and commits that must not be pushed are, too.
        self._release_room()
        try:
            await self._workspace.collect()
        except JobError as error:
            problem = problem or error
            if not self._workspace.has_work:
                raise problem from error
        if problem is not None and not self._workspace.has_work:
            raise problem
        if problem is not None and problem.code in _NO_ROOM:
            await self._warn(f"Files that the agent did not commit are not kept: {problem}")

    def _release_room(self) -> None:
        if self._room is not None:
            self._room.release()

    async def _store(self, result: dict[str, Any], *, ready: bool) -> None:
        if self._max_mb == 0 or not self._workspace.has_work:
            return
        files = await self._workspace.write_work(self._directory, self._max_mb)
        if WorkFile.BUNDLE not in files:
            raise JobError("work_not_kept", f"The agent's work has more than {self._max_mb} MB and is not kept.")
        if sum(path.stat().st_size for path in files.values()) > self._max_mb * 2**20:
            # The bundle has everything that the patch has.
            files.pop(WorkFile.PATCH, None)
        base, start, head, branch = self._workspace.work_commits
        manifest = WorkManifest(base=base, start=start, head=head, branch=branch, ready=ready, files={}, result=result)
        await self._calls.store_work(files, manifest)
        self.is_kept, self.is_ready = True, ready

    async def _warn(self, problem: str) -> None:
        await self._events.emit(EventKind.WARNING, {"code": "work_not_kept", "message": problem})
