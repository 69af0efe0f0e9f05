"""The pages that people read name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from myctobot.stack.plan import CHECKOUT

PAGES = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
VARIABLE = re.compile(r'\b(?:env\.\w+|choice|url)\(\s*"([A-Z_]+)"')
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The names that a heading can be linked by, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_names_every_variable_that_is_read_but_those_of_providers_which_have_pages_of_their_own() -> None:
    settings = "".join((CHECKOUT / "myctobot" / name).read_text() for name in ("settings.py", "settings_gateway.py"))
    readme = "".join((CHECKOUT / page).read_text() for page in ("README.md", "docs/lxc.md", "docs/proxmox.md"))
    assert [name for name in VARIABLE.findall(settings) if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
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
