from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.demo import repository
from myctobot.demo.errors import DemoFailed
from myctobot.demo.repository import git, make_sample, run_tests


def test_the_samples_test_fails_and_passes_once_the_code_is_right(tmp_path: Path) -> None:
    sample = make_sample(tmp_path)
    before = run_tests(sample.work)
    assert not before.passed
    assert "3.0 != 4" in before.output
    code = sample.work / "calc.py"
    code.write_text(code.read_text().replace("(len(values) + 1)", "len(values)"))
    assert run_tests(sample.work).passed


def test_a_pushed_branch_can_be_checked_out_several_times(tmp_path: Path) -> None:
    sample = make_sample(tmp_path)
    for _ in range(2):
        fresh = sample.check_out("main", tmp_path / "fresh")
        assert set(repository.FILES) <= {path.name for path in fresh.iterdir()}


def test_the_sample_is_created_again_each_time(tmp_path: Path) -> None:
    (make_sample(tmp_path).work / "left.txt").write_text("from before")
    sample = make_sample(tmp_path)
    assert not (sample.work / "left.txt").exists()
    assert git(sample.origin, "log", "--format=%s", "main").strip() == "A little statistics"


def test_the_callers_git_configuration_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Mallory\n[init]\n\ttemplateDir = /nonexistent\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    sample = make_sample(tmp_path / "sample")
    assert git(sample.work, "log", "-1", "--format=%an").strip() == "MyCTOBot demo"
    assert not (tmp_path / "elsewhere").exists()


def test_a_git_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match=r"git clone failed in .*: fatal: "):
        git(tmp_path, "clone", "--", str(tmp_path / "missing"), "copy")


def test_a_missing_git_is_named_with_the_package_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoFailed, match="install the package 'git'"):
        git(tmp_path, "log")
