from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.errors import JobError
from workers.runner.disk_watchdog import MB, DiskWatchdog, FreeSpace, read_free_space, shortage
from workers.sandbox.disk_image import DiskImage

ROOMY = FreeSpace(bytes=5000 * MB, total_bytes=50_000 * MB, files=10**6, total_files=10**7)


def space(free_mb: int = 5000, total_mb: int = 50_000, files: int = 10**6, total_files: int = 10**7) -> FreeSpace:
    return FreeSpace(free_mb * MB, total_mb * MB, files, total_files)


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (space(), None),
        (space(1024), None),
        (space(1023), "1023 MB left, less than the minimum of 1024 MB"),
        # A fifth of a small disk is enough.
        (space(32, 160), None),
        (space(31, 160), "31 MB left, less than the minimum of 32 MB"),
        (space(files=9_999), "room for 9,999 more files, less than the minimum of 10,000"),
        (space(files=0, total_files=0), None),
        (space(files=200, total_files=1000), None),
    ],
)
def test_shortage(free: FreeSpace, words: str | None) -> None:
    assert shortage(free, 1024) == words


def test_the_free_space_of_a_real_disk(tmp_path: Path) -> None:
    free = read_free_space(tmp_path)
    assert 0 < free.bytes <= free.total_bytes


def test_work_on_a_disk_with_space_ends_by_itself(tmp_path: Path) -> None:
    async def work() -> str:
        return "done"

    async def kill() -> None:
        raise AssertionError("nothing must be killed")

    assert asyncio.run(DiskWatchdog(tmp_path, 1024, read=lambda path: ROOMY).watch(work(), kill)) == "done"


def test_work_that_fails_raises_its_own_error(tmp_path: Path) -> None:
    async def work() -> None:
        raise JobError("agent_failed", "It failed.")

    async def kill() -> None:
        raise AssertionError("nothing must be killed")

    with pytest.raises(JobError) as caught:
        asyncio.run(DiskWatchdog(tmp_path, 1024, read=lambda path: ROOMY).watch(work(), kill))
    assert caught.value.code == "agent_failed"


def test_the_agent_is_killed_before_the_work_is_cancelled(tmp_path: Path) -> None:
    happened: list[str] = []
    readings = iter([ROOMY, space(1000)])

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            happened.append("cancelled")

    async def kill() -> None:
        happened.append("killed")

    read: Callable[[Path], FreeSpace] = lambda path: next(readings)  # noqa: E731 - the type is the point
    with pytest.raises(JobError) as caught:
        asyncio.run(DiskWatchdog(tmp_path, 1024, read=read).watch(work(), kill))
    assert (caught.value.code, caught.value.retryable) == ("disk_limit", True)
    assert happened == ["killed", "cancelled"]


class Image(DiskImage):
    """Bounds of a disk image that has reached a bound or not."""

    def __init__(self, bound: str | None = None) -> None:
        self.bound = bound

    @property
    def bounds(self) -> str:
        return "its bounds of 64 MB"

    def reached_bound(self) -> str | None:
        return self.bound

    def descriptor(self) -> int | None:
        return None


def error_of(image: Image, failure: Exception) -> Exception:
    async def work() -> None:
        raise failure

    async def kill() -> None:
        pass

    watchdog = DiskWatchdog(Path("/"), 1024, image, read=lambda path: ROOMY)
    with pytest.raises((JobError, OSError)) as caught:
        asyncio.run(watchdog.watch(work(), kill))
    return caught.value


@pytest.mark.parametrize(
    "failure", [JobError("disk_full", "Full."), OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "quota")]
)
def test_work_that_finds_no_space_in_its_image_names_the_bounds(failure: Exception) -> None:
    error = error_of(Image(), failure)
    assert isinstance(error, JobError)
    assert (error.code, error.retryable) == ("disk_limit", False)
    assert "it reached its bounds of 64 MB;" in str(error)


def test_work_that_fails_for_another_reason_keeps_its_error() -> None:
    for failure in (JobError("agent_failed", "It failed."), OSError(errno.EIO, "broken")):
        assert error_of(Image(), failure) is failure


def test_the_end_of_the_agent_is_checked_too() -> None:
    watchdog = DiskWatchdog(Path("/"), 0, Image("its bound of 64 MB"), read=lambda path: ROOMY)
    with pytest.raises(JobError, match="reached its bound of 64 MB"):
        watchdog.check()
