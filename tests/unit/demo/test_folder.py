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


def test_a_second_run_meanwhile_gets_its_own_which_goes_away(tmp_path: Path) -> None:
    with demo_folder(tmp_path) as first, demo_folder(tmp_path) as second:
        assert first != second
        (second / "data").touch()
    assert first.is_dir()
    assert not second.exists()


def test_it_is_not_for_everybody_to_read(tmp_path: Path) -> None:
    with demo_folder(tmp_path / "home") as folder:
        assert {path.stat().st_mode & 0o066 for path in (folder, folder.parent)} == {0}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DemoFailed, match=f"{tmp_path}{os.sep}file"), demo_folder(tmp_path / "file"):
        pass
