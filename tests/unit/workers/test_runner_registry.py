"""Registry of live runners."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from workers.runner_registry import Registry, RunnerEntry, process_start_time


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "run")


def test_a_runner_registers_and_removes_itself(registry: Registry, tmp_path: Path) -> None:
    entry = registry.add("job_1", 2, 0)
    assert registry.live() == [entry]
    assert (entry.pid, entry.name) == (os.getpid(), "job_1.2")
    registry.remove(entry)
    assert registry.live() == []
    assert not any((tmp_path / "run").iterdir())


def test_only_its_owner_can_read_the_directory(registry: Registry, tmp_path: Path) -> None:
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_the_file_of_an_ended_runner_is_removed(registry: Registry, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    path = tmp_path / "run" / "job_1.1.json"
    path.write_text(json.dumps(asdict(RunnerEntry(process.pid, 1, "job_1", 1, 0))))
    assert registry.live() == []
    assert not path.exists()


def test_a_later_process_with_the_same_pid_is_not_taken_for_the_runner(registry: Registry) -> None:
    entry = registry.add("job_1", 1, 0)
    assert entry.is_alive()
    assert not RunnerEntry(entry.pid, entry.start_time - 1, "job_1", 1, 0).is_alive()


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
