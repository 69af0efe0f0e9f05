"""The folder of a run, which its processes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run import RUN_FOLDER, once_per_run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RUN_FOLDER, str(tmp_path))
    return tmp_path


def test_the_first_process_makes_it_and_the_others_find_it(folder: Path) -> None:
    with once_per_run("template") as missing:
        assert missing == folder / "template"
    with once_per_run("template") as missing:
        assert missing is None


def test_what_failed_is_tried_again(folder: Path) -> None:
    with pytest.raises(RuntimeError), once_per_run("template"):
        raise RuntimeError
    with once_per_run("template") as missing:
        assert missing is not None
