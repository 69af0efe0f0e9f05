"""Keeper of an agent's work, for each state in which an attempt may end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from myctobot.contract.jobs import EventKind
from myctobot.contract.work import WorkFile, WorkManifest
from workers.control_plane import AttemptFenced
from workers.errors import JobError
from workers.runner.work_keeper import KEPT, WorkKeeper

pytestmark = pytest.mark.anyio

REFUSED = JobError("ci_files_refused", "The commits change CI files.")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeWorkspace:
    """Workspace whose agent made this many bytes of work; its collection may end with an error."""

    def __init__(self, size: int = 10, error: JobError | None = None, *, patch: int = 5) -> None:
        self.size, self.error, self.patch = size, error, patch
        self.has_work = False
        self.work_commits = ("a" * 40, "b" * 40, "c" * 40, "topic")
        self.collected = 0

    async def commit_leftovers(self, message: str) -> bool:
        return True

    async def collect(self) -> None:
        self.collected += 1
        self.has_work = self.size > 0
        if self.error is not None:
            raise self.error

    async def write_work(self, directory: Path, max_mb: int) -> dict[WorkFile, Path]:
        files: dict[WorkFile, Path] = {}
        for file, size in ((WorkFile.BUNDLE, self.size), (WorkFile.PATCH, self.patch)):
            if size < max_mb * 2**20:
                files[file] = directory / file.value
                files[file].write_bytes(b"x" * size)
        return files


class Fakes:
    """Keeper with fakes around it."""

    def __init__(self, directory: Path, workspace: FakeWorkspace, max_mb: int = 1) -> None:
        self.workspace = workspace
        self.stored: list[tuple[set[str], WorkManifest]] = []
        self.warnings: list[str] = []
        self.refusal: Exception | None = None
        self.keeper = WorkKeeper(cast(Any, workspace), cast(Any, self), cast(Any, self), directory, max_mb)

    async def store_work(self, files: Mapping[WorkFile, Path], manifest: WorkManifest) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.stored.append(({file.value for file in files}, manifest))

    async def emit(self, kind: EventKind, data: dict[str, Any]) -> None:
        self.warnings.append(data["code"])


async def test_work_is_kept_before_the_push_and_only_once(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, FakeWorkspace())
    await fakes.workspace.collect()
    await fakes.keeper.keep({"summary": "Done."}, ready=True)
    assert await fakes.keeper.salvage("unused") == KEPT
    ((files, manifest),) = fakes.stored
    assert (files, manifest["ready"], manifest["result"]) == ({"bundle", "patch"}, True, {"summary": "Done."})
    assert (manifest["head"], manifest["branch"]) == ("c" * 40, "topic")


async def test_what_an_agent_left_is_collected_and_kept(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, FakeWorkspace())
    assert await fakes.keeper.salvage("Work of the agent") == KEPT
    assert (fakes.workspace.collected, fakes.stored[0][1]["ready"]) == (1, False)


async def test_commits_that_must_not_be_pushed_are_kept(tmp_path: Path) -> None:
    assert await Fakes(tmp_path, FakeWorkspace(error=REFUSED)).keeper.salvage("x") == KEPT


async def test_without_work_nothing_is_kept_and_an_error_of_the_collection_is_raised(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, FakeWorkspace(size=0))
    assert (await fakes.keeper.salvage("x"), fakes.stored) == ("", [])
    with pytest.raises(JobError, match="CI files"):
        await Fakes(tmp_path, FakeWorkspace(size=0, error=REFUSED)).keeper.salvage("x")


async def test_a_control_plane_that_keeps_no_work_gets_none(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, FakeWorkspace(), max_mb=0)
    assert (await fakes.keeper.salvage("x"), fakes.stored) == ("", [])


async def test_a_patch_gives_way_to_the_bundle_and_a_bundle_to_the_bound(tmp_path: Path) -> None:
    both = Fakes(tmp_path, FakeWorkspace(size=700_000, patch=700_000))
    await both.keeper.salvage("x")
    assert both.stored[0][0] == {"bundle"}
    with pytest.raises(JobError, match="more than 1 MB and is not kept"):
        await Fakes(tmp_path, FakeWorkspace(size=2**20)).keeper.salvage("x")


async def test_a_push_does_not_depend_on_what_is_kept_but_a_fence_ends_it(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, FakeWorkspace())
    await fakes.workspace.collect()
    fakes.refusal = JobError("work_not_kept", "No room.")
    await fakes.keeper.keep({}, ready=True)
    assert (fakes.warnings, fakes.keeper.is_kept) == (["work_not_kept"], False)
    fakes.refusal = AttemptFenced("fenced", "Stop.", {})
    with pytest.raises(AttemptFenced):
        await fakes.keeper.keep({}, ready=True)
