"""Rules for the sentences that a person reads; ``python -m tests.architecture.sentences PATH…`` lists offenders."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent

# These files contain the banned words in texts, because they define and test the rule.
RULE_FILES: Final = frozenset(ROOT / "tests" / "architecture" / name for name in ("sentences.py", "test_sentences.py"))

MAX_COMMENT_WORDS: Final = 25
MAX_DOCS_LINE: Final = 120

# A docstring that opens with one of these words poses a question or continues a sentence.
OPENINGS: Final = frozenset(
    ("all", "as", "how", "of", "what", "when", "where", "whether", "which", "who", "whom", "whose", "why")
)
_BANNED: Final = re.compile(
    r"\b(whoever|whatever|somebody|nobody|anew|meanwhile|beside|stands|told|in vain|dear to|by hand"
    r"|(?:a|an|the|this|that|one|each|every|first|second|last|latest|next|closer|old|new|another)[ _]look)\b",
    re.IGNORECASE,
)
# Unix hosts have an account with this name.
_ACCOUNT: Final = re.compile(r"[\"'`=:/ ]nobody[\"'`,:;/]|^nobody$")
TEXTS: Final = (".md", ".html", ".yml", ".yaml", ".j2", ".js", ".css", ".toml", ".cfg", ".in", ".txt", ".sh")

Problem = tuple[int, str]


def banned_word(text: str) -> str | None:
    """Return the first banned word of a text, or None; the words of a name are separated by underscores."""
    text = _ACCOUNT.sub(" ", text)
    found = _BANNED.search(text) or _BANNED.search(text.replace("_", " "))
    return found.group() if found else None


def name_problem(name: str) -> str | None:
    """Return the reason why a name breaks the rules, or None."""
    if name.lstrip("_").startswith("MOST_"):
        return f"a bound starts with MAX_: rename {name} to {name.replace('MOST_', 'MAX_', 1)}"
    word = banned_word(name.replace("_", " "))
    return f"“{word}” in the name {name}" if word else None


def defined_name(node: ast.AST) -> str | None:
    """Return the name that a class, a function, an argument or an assignment defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return node.name
    if isinstance(node, ast.arg):
        return node.arg
    return node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None


def docstring_problem(text: str) -> str | None:
    """Return the reason why a docstring breaks the rules, or None."""
    words = text.split()
    first = words[0].strip("\"'“”,.:;()").lower() if words else ""
    if not first:
        return "the docstring is empty"
    if first in OPENINGS:
        return f"a docstring starts with a verb or a noun, not with “{words[0]}”: “Return the shards that …”"
    return None


def comment_problem(text: str) -> str | None:
    """Return the reason why a comment breaks the rules, or None."""
    words = re.findall(r"[^\s`]+", text)
    if len(words) > MAX_COMMENT_WORDS:
        return (
            f"a comment has at most {MAX_COMMENT_WORDS} words and gives the reason, subject first; "
            f"this one has {len(words)}: “{' '.join(words[:8])} …”"
        )
    return None


def comment_blocks(text: str) -> Iterator[Problem]:
    """Yield each comment with the number of its first line.

    A blank comment line or a numbered step starts another comment.
    """
    block: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, words = token.start[0], token.string.lstrip("#!: ").strip()
        alone = text.splitlines()[line - 1].lstrip().startswith("#")
        is_rule = not words or set(words) <= set("-= ") or words.startswith(("---", "type:", "noqa", "fmt:"))
        if block and (line != last + 1 or not alone or is_rule or re.match(r"\d+\.\s", words)):
            yield start, " ".join(block)
            block = []
        if is_rule:
            words = re.sub(r"^(type: ignore\[[^]]*\]|noqa: [A-Z0-9, ]+)", "", words).strip("-=# ")
        if words:
            start = start if block else line
            block.append(words)
        last = line
        if block and not alone:
            yield start, " ".join(block)
            block = []
    if block:
        yield start, " ".join(block)


def python_problems(text: str, *, quotes_words: bool = False) -> Iterator[Problem]:
    """Yield the problems of a Python file, with their lines.

    Args:
        quotes_words: allow banned words in texts, for the files that define and test the rule.
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node)
            if doc is not None and (problem := docstring_problem(doc)):
                yield getattr(node, "lineno", 1), problem
        elif (
            not quotes_words
            and isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and (word := banned_word(node.value))
        ):
            yield node.lineno, f"“{word}” in a text"
        if (name := defined_name(node)) and (problem := name_problem(name)):
            yield getattr(node, "lineno", 1), problem
    for line, comment in comment_blocks(text):
        if problem := comment_problem(comment):
            yield line, problem
        if word := banned_word(comment):
            yield line, f"“{word}” in a comment"


def text_problems(path: Path, text: str) -> Iterator[Problem]:
    """Yield the problems of a page, a template, a script or a configuration file."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        # The changelog's tables list former names.
        lists_names = path.name == "CHANGELOG.md" and line.startswith("|")
        if not lists_names and (word := banned_word(line)):
            yield number, f"“{word}”"
        if path.suffix == ".md" and line.lstrip().startswith("```"):
            fenced = not fenced
        # A row of a table cannot be wrapped.
        if path.suffix == ".md" and len(line) > MAX_DOCS_LINE and not fenced and not line.lstrip().startswith("|"):
            yield number, f"a line of the docs ends at {MAX_DOCS_LINE} characters"


def problems(path: Path) -> Iterable[Problem]:
    """Return the problems of one file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return sorted(text_problems(path, text))
    return sorted(python_problems(text, quotes_words=path in RULE_FILES))


def is_read(path: Path) -> bool:
    """Return whether the rules apply to a file. They do not apply to migrations and vendored files."""
    parts = path.relative_to(ROOT).parts
    named = path.suffix in (".py", *TEXTS) or path.name == "Makefile"
    return (
        named
        and "migrations" not in parts
        and path.name not in ("LICENSE", "public_names.txt")
        and "vendor" not in parts
    )


def files(names: Iterable[str]) -> list[Path]:
    """Return the files at and below the paths, without those that the rules do not apply to."""
    found: list[Path] = []
    for name in names:
        path = (ROOT / name).resolve()
        found += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sorted(file for file in found if "__pycache__" not in file.parts and is_read(file))


if __name__ == "__main__":
    for file in files(sys.argv[1:]):
        for line, problem in problems(file):
            sys.stdout.write(f"{file.relative_to(ROOT)}:{line}: {problem}\n")
