"""Locks of files between processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from myctobot.contract import file_locks
from tests.fixtures.waiting_child import waiting_child


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_locks.held(path), pytest.raises(BlockingIOError):
        file_locks.take(path, wait=False)
    with file_locks.held(path, wait=False):
        pass


def test_a_release_also_counts_for_a_process_that_is_just_starting(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    descriptor = file_locks.take(path, wait=False)
    with waiting_child():
        file_locks.release(descriptor)
        file_locks.release(file_locks.take(path, wait=False))


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    child = os.fork()
    if child == 0:
        try:
            file_locks.take(path, wait=False)
            os._exit(0)
        finally:
            # Only after an error.
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    file_locks.release(file_locks.take(path, wait=False))


def test_a_refused_lock_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_locks.held(path):
        before = open_descriptors()
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                file_locks.take(path, wait=False)
        assert open_descriptors() == before


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        file_locks.take(tmp_path / "lock", wait=False)
    assert not (tmp_path / "other").exists()
