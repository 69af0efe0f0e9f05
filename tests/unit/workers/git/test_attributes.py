from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fixtures.repos import ENV, git
from workers.git.attributes import MAX_VERBATIM_LINES, ignore_line, verbatim_lines

NAMES = ["plain.txt", "a b.txt", '[odd] "name"*.txt', "back\\slash", "#hash", "!bang", "line\nbreak", "d/é.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_line_matches_exactly_its_path(tmp_path: Path, name: str) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".git" / "info").mkdir(exist_ok=True)
    (tmp_path / ".git" / "info" / "attributes").write_text("* text\n" + verbatim_lines([name]))
    asked = "".join(f"{path}\0" for path in (name, "other", f"x/{name}"))
    command = ["git", "check-attr", "-z", "--stdin", "text"]
    shown = subprocess.run(command, cwd=tmp_path, env=ENV, input=asked.encode(), check=True, capture_output=True)
    assert shown.stdout.decode().split("\0")[2::3] == ["unset", "set", "set"]


def test_without_paths_there_are_no_lines() -> None:
    assert verbatim_lines([]) == ""


def test_the_number_of_lines_is_bounded() -> None:
    assert verbatim_lines(map(str, range(MAX_VERBATIM_LINES * 2))).count("-text") == MAX_VERBATIM_LINES


def test_a_folder_is_ignored_by_its_exact_name() -> None:
    assert ignore_line("a*b/[c]/") == "/a\\*b/\\[c]/"
    assert ignore_line("a\nb") == "/a?b"
