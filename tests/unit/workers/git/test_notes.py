from __future__ import annotations

import pytest

from workers.git.notes import find_imports, resolve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See @docs/style.md and @AGENTS.md.", ["docs/style.md", "AGENTS.md"]),
        ("@a\\ b.md", ["a b.md"]),
        ("mail ada@example.com", []),
        ("`@code.md` and ``` @b.md", ["b.md"]),
        ("`` @a.md ` @b.md `` @c.md", ["c.md"]),
        ("```\n@code.md\n```\n@after.md", ["after.md"]),
        ("~~~\n@code.md\n```\n@still.md\n~~~~\n@after.md", ["after.md"]),
        ("@ @. none", []),
    ],
)
def test_imports_are_found_outside_of_code(text: str, expected: list[str]) -> None:
    assert list(find_imports(text)) == expected


@pytest.mark.parametrize(
    ("folder", "path", "expected"),
    [
        ("", "AGENTS.md", "AGENTS.md"),
        (".claude", "../AGENTS.md", "AGENTS.md"),
        ("docs", "./x.md", "docs/x.md"),
        ("", "../x.md", None),
        ("", "..", None),
        ("", "/etc/passwd", None),
        ("", "~/.claude/x.md", None),
        ("", "a\0b", None),
        ("", "x" * 5000, None),
    ],
)
def test_an_import_stays_in_the_repository(folder: str, path: str, expected: str | None) -> None:
    assert resolve(folder, path) == expected
