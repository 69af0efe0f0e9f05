"""Map of the code: one page lists every folder and its subject."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from .sentences import OPENINGS
from .source import PRODUCT, ROOT, modules

# Django requires these names, and the folders have no subject of their own.
FRAMEWORK = {"commands", "migrations", "en", "static", "templates", "__pycache__"}
VERBS = ("add", "check", "give", "make", "read", "return", "run", "say", "send", "tell", "write")


def packages() -> list[Path]:
    """Return every package of the product, without the folders whose names Django requires."""
    return sorted(
        path.parent
        for top in PRODUCT
        for path in (ROOT / top).rglob("__init__.py")
        if not FRAMEWORK & set(path.parent.relative_to(ROOT).parts)
    )


def names(package: Path) -> str:
    return str(package.relative_to(ROOT))


@pytest.mark.parametrize("package", packages(), ids=names)
def test_a_package_docstring_names_its_subject(package: Path) -> None:
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    first = doc.split("\n\n")[0]
    word = first.split()[0].lower().strip(":,.") if first else ""
    assert first.endswith("."), (
        f"{names(package)}/__init__.py needs a docstring: one noun phrase that ends with a period"
    )
    assert first.count(". ") == 0, f"{names(package)}: the docstring is one noun phrase, not several sentences"
    assert word not in {*OPENINGS, *VERBS}, (
        f"{names(package)}: “{first}” is not a noun phrase; name the subject of the folder"
    )


def test_the_architecture_page_lists_every_folder() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    missing = [names(package) for package in packages() if f"| `{names(package)}/` |" not in page]
    assert not missing, f"docs/architecture.md does not list {missing}: add a row with the folder's subject"


def test_the_architecture_page_lists_no_missing_folder() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    gone = [row for row in rows if row.endswith("/") and not (ROOT / row).is_dir()]
    assert not gone, f"docs/architecture.md lists {gone}, which do not exist: remove the rows or correct the paths"


def public_names() -> list[str]:
    """Return the public names of the revision before the renaming: codes, settings, metrics, API paths and fields."""
    return [
        line.split()[-1] for line in (ROOT / "tests" / "architecture" / "public_names.txt").read_text().splitlines()
    ]


def test_the_changelog_lists_every_public_name_that_is_gone() -> None:
    code = "\n".join(module.text for module in modules())
    rows = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("| ")]
    before = " ".join(row.split("|")[1] for row in rows)
    gone = [name for name in public_names() if not is_in(name.removeprefix("/api/v1/"), code)]
    wrong = [name for name in gone if not is_in(name, before)]
    assert gone, "the list of public names is older than the renaming, so some of them are gone"
    assert not wrong, f"{wrong}: add a row with the former and the new name to the CHANGELOG's table"


def is_in(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", text) is not None


@pytest.mark.parametrize(("name", "text", "found"), [("well", "`well`", True), ("well", "very_well", False)])
def test_the_search_for_a_name(name: str, text: str, found: bool) -> None:
    assert is_in(name, text) is found
