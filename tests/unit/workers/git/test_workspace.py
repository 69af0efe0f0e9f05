from __future__ import annotations

import pytest

from workers.git.workspace import is_progress, parse_version


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("git version 2.39.5", (2, 39)),
        ("git version 2.50.1 (Apple Git-155)", (2, 50)),
        ("git version 3.x", (0, 0)),
        ("hello", (0, 0)),
    ],
)
def test_gits_version_is_read(text: str, expected: tuple[int, int]) -> None:
    assert parse_version(text) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Receiving objects:  42% (21/50), 1.00 MiB | 2.00 MiB/s", True),
        ("Receiving objects: 100% (50/50), 2.00 MiB | 2.00 MiB/s, done.", False),
        ("From https://github.com/user/repo", False),
        ("Cloning into bare repository 'clean.git'...", True),
    ],
)
def test_only_completed_progress_is_logged(line: str, expected: bool) -> None:
    assert is_progress(line) == expected
