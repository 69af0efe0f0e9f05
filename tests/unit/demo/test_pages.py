"""Completeness of the documentation pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from myctobot.stack.plan import CHECKOUT

PAGES = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
READERS = r"env\.\w+|choice|url|folders|schemes|networks|token|endpoint|whole_number|webhook_secret"
VARIABLE = re.compile(rf'\b(?:{READERS})\(\s*"([A-Z_]+)"')
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts create them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_configuration_page_names_every_variable_that_is_read() -> None:
    settings = "".join(path.read_text() for path in (CHECKOUT / "myctobot" / "settings").glob("*.py"))
    pages = ("configuration.md", "lxc.md", "proxmox.md")
    text = "".join((CHECKOUT / "docs" / page).read_text() for page in pages)
    assert [name for name in VARIABLE.findall(settings) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_have_a_target(page: Path) -> None:
    broken = []
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name) if name else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


def test_the_shards_page_names_every_key_of_the_configuration() -> None:
    source = (CHECKOUT / "workers" / "config.py").read_text()
    keys = set(re.findall(r'\.(?:take|number|texts|path|section)\(\s*"(\w+)"', source))
    text = (CHECKOUT / "docs" / "shards.md").read_text()
    assert sorted(key for key in keys if not re.search(rf"\b{key}\b", text)) == []


def test_the_index_lists_every_page() -> None:
    index = (CHECKOUT / "docs" / "index.md").read_text()
    names = [page.name for page in PAGES if page.parent.name == "docs" and page.name != "index.md"]
    assert [name for name in names if f"({name})" not in index] == []


def test_the_readme_is_short() -> None:
    size = len((CHECKOUT / "README.md").read_bytes())
    assert size < 8000, f"the README has {size} bytes: move details to a page in docs/ and link it"
