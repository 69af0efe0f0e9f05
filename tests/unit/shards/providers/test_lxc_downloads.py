"""Downloads that builds of templates share."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.providers.lxc import downloads as module
from shards.providers.lxc.downloads import downloads


def test_one_build_at_a_time_has_them(tmp_path: Path) -> None:
    with downloads(tmp_path) as first:
        assert first is not None
        assert first.packages.is_dir()
        with downloads(tmp_path) as second:
            assert second is None
    with downloads(tmp_path) as third:
        assert third == first


def test_what_is_downloaded_stays_for_the_next_build(tmp_path: Path) -> None:
    with downloads(tmp_path) as first:
        assert first is not None
        (first.packages / "hello.deb").touch()
    with downloads(tmp_path) as second:
        assert second is not None
        assert (second.packages / "hello.deb").exists()


def test_what_is_old_goes_and_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"
    kept.touch()
    with downloads(tmp_path) as first:
        assert first is not None
        (first.packages / "old.deb").touch()
        (first.packages / "link.deb").symlink_to(kept)
    monkeypatch.setattr(module, "_UNUSED_AFTER_S", -60)
    with downloads(tmp_path) as second:
        assert second is not None
        assert not (second.packages / "old.deb").exists()
    assert kept.exists()
