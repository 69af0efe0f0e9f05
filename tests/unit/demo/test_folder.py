from __future__ import annotations

import os
from pathlib import Path

import pytest

from myctobot.demo.errors import DemoFailed
from myctobot.demo.folder import demo_folder


def test_the_folder_is_kept_for_the_next_run(tmp_path: Path) -> None:
    with demo_folder(tmp_path / "home") as first:
        (first / "kept").touch()
    with demo_folder(tmp_path / "home") as second:
        assert second == first
        assert (second / "kept").exists()


def test_a_second_run_at_the_same_time_gets_a_temporary_folder(tmp_path: Path) -> None:
    with demo_folder(tmp_path) as first, demo_folder(tmp_path) as second:
        assert first != second
        (second / "data").touch()
    assert first.is_dir()
    assert not second.exists()


def test_others_cannot_read_the_folder(tmp_path: Path) -> None:
    with demo_folder(tmp_path / "home") as folder:
        assert {path.stat().st_mode & 0o066 for path in (folder, folder.parent)} == {0}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DemoFailed, match=f"{tmp_path}{os.sep}file"), demo_folder(tmp_path / "file"):
        pass
