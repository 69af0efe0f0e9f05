"""Registry of live runners."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.malformed_messages import NO_ATTEMPTS
from workers.runner_registry import Registry, RunnerEntry, process_start_time

JOB = "job_0123456789abcdefghjk"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "run")


def test_a_runner_registers_and_removes_itself(registry: Registry, tmp_path: Path) -> None:
    entry = registry.add(JOB, 2, 0)
    assert registry.live() == [entry]
    assert (entry.pid, entry.name) == (os.getpid(), f"{JOB}.2")
    registry.remove(entry)
    assert registry.live() == []
    assert not any((tmp_path / "run").iterdir())


def test_only_its_owner_can_read_the_directory(registry: Registry, tmp_path: Path) -> None:
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_the_file_of_an_ended_runner_is_removed(registry: Registry, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    path = tmp_path / "run" / f"{JOB}.1.json"
    path.write_text(json.dumps(asdict(RunnerEntry(process.pid, 1, JOB, 1, 0))))
    assert registry.live() == []
    assert not path.exists()


def test_a_later_process_with_the_same_pid_is_not_taken_for_the_runner(registry: Registry) -> None:
    entry = registry.add(JOB, 1, 0)
    assert entry.is_alive()
    assert not RunnerEntry(entry.pid, entry.start_time - 1, JOB, 1, 0).is_alive()


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert process_start_time(process.pid) is not None
        process.kill()
        # WNOWAIT waits for the end but leaves the zombie.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_start_time(process.pid) is None


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[]"])
def test_a_broken_file_is_removed(registry: Registry, tmp_path: Path, content: str) -> None:
    path = tmp_path / "run" / "broken.json"
    path.write_text(content)
    assert registry.live() == []
    assert not path.exists()


@pytest.mark.parametrize(("job_id", "attempt"), NO_ATTEMPTS)
def test_no_path_is_built_from_other_values(registry: Registry, tmp_path: Path, job_id: Any, attempt: Any) -> None:
    with pytest.raises(ValueError, match="do not name an attempt"):
        registry.add(job_id, attempt, 0)
    assert [path.name for path in tmp_path.rglob("*")] == ["run"]
    forged = {"pid": os.getpid(), "start_time": process_start_time(os.getpid()), "slot": 0}
    (tmp_path / "run" / "forged.json").write_text(json.dumps({**forged, "job_id": job_id, "attempt": attempt}))
    assert registry.live() == []
