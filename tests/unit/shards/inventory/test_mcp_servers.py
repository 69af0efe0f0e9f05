"""Validation of MCP servers."""

from __future__ import annotations

from typing import Any

import pytest

from shards.inventory.mcp_servers import problems_of, without_values

GOOD = {"git": {"command": "mcp-server-git", "args": ["-v"], "env": {"A": "1"}, "capabilities": ["git"],
                "addresses": ["10.0.0.5:5432", "[fd00::2]:443"]}}  # fmt: skip


def test_valid_servers_have_no_problems() -> None:
    assert problems_of(GOOD) == []
    assert problems_of({"git": {"command": "x"}}) == []
    assert problems_of({}) == []


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ([], "Must be a JSON object"),
        ({"Git": {"command": "x"}}, "“Git” is not a lower-case slug"),
        ({"git": "x"}, "must be an object"),
        ({"git": {"command": " "}}, "must name the program"),
        ({"git": {"command": "x", "argv": []}}, "unknown key “argv”"),
        ({"git": {"command": "x", "args": "-v"}}, "args must be a list"),
        ({"git": {"command": "x", "env": {"A": 1}}}, "env must map"),
        ({"git": {"command": "x", "env": {"A": "\x00"}}}, "env must map"),
        ({"git": {"command": "x", "capabilities": ["A B"]}}, "capabilities must be"),
        ({"git": {"command": "x", "addresses": "10.0.0.5:80"}}, "addresses must be a list"),
        ({"git": {"command": "x", "addresses": ["10.0.0.5:80"] * 65}}, "at most 64 texts"),
        ({"git": {"command": "x", "addresses": ["db:80", "x:80"]}}, "“git”.addresses: 'db:80' is not an address with"),
        ({"git": {"command": "x", "addresses": ["127.0.0.1:80"]}}, "not the address of one other machine"),
        ({f"s{at}": {"command": "x"} for at in range(51)}, "at most 50"),
    ],
)
def test_each_mistake_is_named(servers: Any, said: str) -> None:
    (problem,) = problems_of(servers)
    assert said in problem


def test_the_audit_log_has_names_without_values() -> None:
    cleaned = without_values({"git": {"command": "x", "env": {"TOKEN": "canary"}}, "odd": 5})
    assert cleaned == {"git": {"command": "x", "env": {"TOKEN": "(set)"}}, "odd": 5}
