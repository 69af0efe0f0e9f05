"""Locks of files between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from myctobot.contract import file_locks
from myctobot.stack.plan import CHECKOUT
from tests.fixtures.waiting_child import waiting_child


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def is_free(path: Path) -> bool:
    try:
        file_locks.release(file_locks.take(path, wait=False))
    except BlockingIOError:
        return False
    return True


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_locks.held(path):
        assert not is_free(path)
    assert is_free(path)


def test_a_release_also_counts_for_a_process_that_is_just_starting(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    descriptor = file_locks.take(path, wait=False)
    with waiting_child():
        assert not is_free(path)
        file_locks.release(descriptor)
        assert is_free(path)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = "import sys, pathlib, time; from myctobot.contract import file_locks as f"
    code += "; f.take(pathlib.Path(sys.argv[1]), wait=False); print('taken', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        assert not is_free(path)
        holder.kill()
        holder.wait(10)
    assert is_free(path)


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
