"""Rules for sentences, applied to every file and tested with good and bad examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from .sentences import ROOT, banned_word, comment_problem, docstring_problem, files, is_read, name_problem, problems
from .sentences import python_problems as problems_of_code
from .sentences import text_problems as problems_of_text

FOLDERS = ("jobs", "shards", "workers", "myctobot", "tests", "docs", "ansible", "scripts")
FILES = files((*FOLDERS, "README.md", "CHANGELOG.md", "Makefile"))
WORDS = ("whoever", "whatever", "somebody", "nobody", "anew", "meanwhile", "beside", "stands", "told")


def path_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=path_of)
def test_a_file_keeps_the_rules_for_sentences(path: Path) -> None:
    found = "\n".join(f"{path_of(path)}:{line}: {problem}" for line, problem in problems(path))
    assert not found, (
        f"{found}\nWrite plain English: a docstring starts with a verb or a noun, and a comment gives the reason in at "
        "most 25 words. Name who acts instead of a banned word: “a member”, “an operator”, “no shard”. "
        "List all problems of a path with 'python -m tests.architecture.sentences PATH'."
    )


def test_the_rules_apply_to_every_kind_of_file() -> None:
    assert {path.suffix for path in FILES} >= {".py", ".md", ".html", ".js", ".css", ".yml", ".j2"}
    assert {"README.md", "Makefile", "jobs/apps.py", "tests/architecture/sentences.py"} <= set(map(path_of, FILES))


@pytest.mark.parametrize(
    ("path", "applies"),
    [
        ("jobs/apps.py", True),
        ("Makefile", True),
        ("docs/operations.md", True),
        ("jobs/migrations/0001_initial.py", False),
        ("shards/static/vendor/library.js", False),
        ("docs/image.png", False),
    ],
)
def test_the_rules_exempt_migrations_and_vendored_files(path: str, applies: bool) -> None:
    assert is_read(ROOT / path) is applies


@pytest.mark.parametrize("word", [*WORDS, "in vain", "dear to", "by hand", "a look", "this look", "Nobody", "WHOEVER"])
def test_a_banned_word_is_found(word: str) -> None:
    assert banned_word(f"It says {word} here.") == word
    assert banned_word(f"test_{word.replace(' ', '_')}_waits") == word


@pytest.mark.parametrize(
    "text",
    [
        "besides, the worker retold it and understands a stand",
        "a test may look at a page, and looks again",
        "by handling it",
        "chown nobody: /srv",
        "user = 'nobody'",
        "nobody",
    ],
)
def test_other_words_are_allowed(text: str) -> None:
    assert banned_word(text) is None


@pytest.mark.parametrize("first", ["What", "Whether", "How", "Who", "Which", "Of", "All", "As", "When", "Where", "Why"])
def test_a_docstring_that_poses_a_question_is_reported(first: str) -> None:
    assert docstring_problem(f"{first} the shards do.") == (
        f"a docstring starts with a verb or a noun, not with “{first}”: “Return the shards that …”"
    )
    assert docstring_problem(f"“{first.upper()}” the shards do.")


@pytest.mark.parametrize("text", ["", "  \n "])
def test_an_empty_docstring_is_reported(text: str) -> None:
    assert docstring_problem(text) == "the docstring is empty"


@pytest.mark.parametrize("text", ["Return the shards that run.", "Lease of one attempt.", "Whiteboard of a shard."])
def test_a_docstring_that_starts_with_a_verb_or_a_noun_is_allowed(text: str) -> None:
    assert docstring_problem(text) is None


def test_a_comment_has_at_most_25_words() -> None:
    assert comment_problem(" ".join(["word"] * 25)) is None
    problem = comment_problem(" ".join(["word"] * 26))
    assert problem is not None
    assert "this one has 26" in problem


def test_a_comment_is_counted_over_its_lines() -> None:
    lines = "".join(f"# {' '.join(['word'] * 13)}\n" for _ in range(2))
    assert [line for line, _ in problems_of_code(f"x = 1\n{lines}y = 2\n")] == [2]
    assert not list(problems_of_code(lines.replace("\n", "\n\n")))
    assert not list(problems_of_code(lines.replace("\n", "\n#\n")))


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("MAX_SLOTS", True),
        ("UPMOST_ROW", True),
        ("MOST_SLOTS", False),
        ("_MOST_SLOTS", False),
        ("test_nobody_waits", False),
        ("waits_by_hand", False),
        ("handle", True),
    ],
)
def test_a_name_keeps_the_rules(name: str, is_good: bool) -> None:
    assert (name_problem(name) is None) is is_good


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("for MOST_SLOTS in (): ...\n", 1),
        ("MOST_SLOTS = 3\n", 1),
        ("_MOST_SLOTS: int = 3\n", 1),
        ("class Pool:\n    MOST_SLOTS = 3\n", 2),
        ("def run():\n    MOST_SLOTS = 3\n", 2),
        ("def run(\n    somebody): ...\n", 2),
        ("class Somebody: ...\n", 1),
        ("def run():\n    '''Whether it runs.'''\n", 1),
        ("class Pool:\n    '''How it runs.'''\n", 1),
        ("'''What runs.'''\n", 1),
        ("x = 1\ny = f'{x} is told'\n", 2),
        ("x = 1  # not by hand\n", 1),
    ],
)
def test_a_problem_in_code_is_reported_with_its_line(code: str, line: int) -> None:
    assert [number for number, _ in problems_of_code(code)] == [line]


def test_files_that_define_the_rule_may_quote_the_words() -> None:
    code = "x = 'nobody is told'\ndef nobody_waits(): ...\n# anew\n"
    assert [line for line, _ in sorted(problems_of_code(code))] == [1, 2, 3]
    assert [line for line, _ in sorted(problems_of_code(code, quotes_words=True))] == [2, 3]


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("page.md", "x" * 120, []),
        ("page.md", "x" * 121, [1]),
        ("page.md", "| " + "x" * 121, []),
        ("page.md", f"```\n{'x' * 121}\n```\n{'x' * 121}", [4]),
        ("page.html", "x" * 121, []),
        ("page.html", "ok\nNobody waits.", [2]),
        ("CHANGELOG.md", "| `told` | `notified` |", []),
        ("CHANGELOG.md", "It was told.", [1]),
        ("page.md", "| `told` | `notified` |", [1]),
    ],
)
def test_a_problem_in_a_page_is_reported_with_its_line(name: str, text: str, lines: list[int]) -> None:
    assert [number for number, _ in problems_of_text(Path(name), text)] == lines
