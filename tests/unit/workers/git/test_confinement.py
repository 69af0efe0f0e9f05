from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from workers.errors import JobError
from workers.git.command import Git
from workers.git.confinement import MIN_ADDRESS_SPACE_MB, Confinement
from workers.git.process import run_process
from workers.sandbox.limits import MB, Groups, ResourceLimits

LIMITS = ResourceLimits(memory_mb=2048)
SHOW = "import resource as r; print(*(r.getrlimit(n)[0] for n in (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_FSIZE)))"


def limits_of(tmp_path: Path, address_space_mb: int | None = None) -> list[int]:
    argv = Confinement(LIMITS).wrap(
        ["python3", "-c", SHOW], timeout_s=60, max_file_mb=3, address_space_mb=address_space_mb
    )
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    return [int(word) for word in asyncio.run(run_process(argv, env=env, cwd=tmp_path, timeout_s=60)).text.split()]


def test_without_a_memory_controller_each_process_is_limited(tmp_path: Path) -> None:
    assert limits_of(tmp_path) == [2048 * MB, 120, 3 * MB]
    assert limits_of(tmp_path, address_space_mb=600) == [600 * MB, 120, 3 * MB]


def test_git_gets_the_address_space_that_it_needs() -> None:
    assert Confinement(ResourceLimits(memory_mb=64)).memory_mb == MIN_ADDRESS_SPACE_MB


def test_git_does_not_run_outside_of_its_groups(tmp_path: Path) -> None:
    groups = Groups({"memory": tmp_path / "removed"}, LIMITS)
    with pytest.raises(JobError) as caught:
        asyncio.run(Git(tmp_path, confinement=Confinement(LIMITS, groups)).run(["version"], cwd=tmp_path))
    assert (caught.value.code, caught.value.retryable) == ("git_not_confined", True)


def test_git_does_not_run_without_its_limits(tmp_path: Path) -> None:
    # The kernel has no such limit.
    git = Git(tmp_path, max_file_mb=-1, confinement=Confinement(LIMITS))
    with pytest.raises(JobError) as caught:
        asyncio.run(git.run(["version"], cwd=tmp_path))
    assert (caught.value.code, caught.value.retryable) == ("git_not_confined", True)
