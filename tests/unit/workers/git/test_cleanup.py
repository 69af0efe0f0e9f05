from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.git.cleanup import remove_tree


def test_a_tree_with_unreadable_directories_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "job"
    (top / "a/b/c").mkdir(parents=True)
    (top / "a/b/c/file").write_text("x")
    for path in ("a/b/c", "a/b", "a", "."):
        (top / path).chmod(0)
    remove_tree(top)
    assert not top.exists()


def test_a_tree_that_is_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "job"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=here)
        inner = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    remove_tree(top)
    assert not top.exists()


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "kept").write_text("x")
    top = tmp_path / "job"
    (top / "in").mkdir(parents=True)
    (top / "in/link").symlink_to(outside)
    (top / "link").symlink_to(outside / "kept")
    os.link(outside / "kept", top / "hard")
    os.mkfifo(top / "in/pipe")
    remove_tree(top)
    assert (outside / "kept").read_text() == "x"
    assert outside.stat().st_mode & 0o777 == 0o755


def test_the_top_itself_may_not_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "job").symlink_to(tmp_path / "real")
    with pytest.raises(NotADirectoryError):
        remove_tree(tmp_path / "job")
    assert (tmp_path / "real").exists()


def test_a_missing_tree_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "job")
