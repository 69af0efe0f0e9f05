"""The types of shards as files: what the four templates name is what their builds install."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from shards.models import ShardType
from shards.providers.ansible import FOLDER
from shards.providers.lxc import role

ROLE = FOLDER / "roles" / "shard"
TEMPLATES = importlib.import_module("shards.migrations.0005_templates").TEMPLATES
TYPES = [name for name, *_ in TEMPLATES]
# Which package brings a program.
BRINGS = {
    "mcp-server-git": "mcp-server-git",
    "mcp-alchemy": "mcp-alchemy",
    "playwright-mcp": "@playwright/mcp",
    "chromium-headless-shell": "chromium-headless-shell",
}


def installed(name: str) -> dict[str, str]:
    """Packages with their versions, empty for Debian's."""
    variables = role.of_type(name)
    pip = [pin.split("==") for pin in variables["shard_mcp_servers"]]
    npm = [pin.rsplit("@", 1) for pin in variables.get("shard_npm_servers", [])]
    return dict([*pip, *npm, *((package, "") for package in variables.get("shard_packages", []))])


def programs(servers: dict[str, Any]) -> Iterator[str]:
    """Programs that a template's MCP servers name, but Node.js, which comes with servers of npm."""
    for server in servers.values():
        for word in (server["command"], *server["args"]):
            path = word.split("=", 1)[-1]
            if "/bin/" in path and not path.endswith("/node"):
                yield path.rsplit("/", 1)[-1]


def test_each_type_has_its_file_and_its_template() -> None:
    files = {path.stem for path in (FOLDER / "types").glob("*.yml")}
    assert files == set(TYPES) == set(ShardType.values) - {ShardType.CUSTOM}


@pytest.mark.parametrize(("name", "servers"), [(row[0], row[3]) for row in TEMPLATES])
def test_what_a_template_starts_is_what_its_build_installs(name: str, servers: dict[str, Any]) -> None:
    assert {BRINGS[program] for program in programs(servers)} <= installed(name).keys()


@pytest.mark.parametrize("name", TYPES)
def test_full_has_all_of_a_type_in_the_same_versions(name: str) -> None:
    assert installed(name).items() <= installed("full").items()


@pytest.mark.parametrize("name", TYPES)
def test_a_type_sets_what_the_role_knows(name: str) -> None:
    assert role.of_type(name).keys() <= yaml.safe_load((ROLE / "defaults/main.yml").read_text()).keys()


def test_the_role_alone_is_a_general_shard() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    assert role.of_type("general").items() <= defaults.items()


def test_a_template_of_another_name_is_the_role_alone() -> None:
    assert role.of_type("ours") == {}
