"""Servers that an agent reaches directly, by the capabilities of its job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.workers.test_main import config_file
from workers.config import load_config
from workers.executors import direct_addresses

SERVERS: dict[str, Any] = {
    "data": {"command": "x", "capabilities": ["postgres"], "addresses": ["10.0.0.6:5432", "10.0.0.5:5432"]},
    "web": {"command": "x", "addresses": ["[fd00::2]:443"]},
}


@pytest.mark.parametrize(
    ("capabilities", "more"),
    [([], []), (["git", "data"], []), (["postgres"], ["10.0.0.5:5432", "10.0.0.6:5432"]), (["web"], ["[fd00::2]:443"])],
)
def test_a_job_reaches_the_servers_of_its_own_capabilities(
    tmp_path: Path, capabilities: list[str], more: list[str]
) -> None:
    own = ["10.0.0.9:80", "10.0.0.5:5432"] if more else ["10.0.0.9:80"]
    file = config_file(tmp_path, sandbox={"addresses": own}, claude_code={"mcp_servers": SERVERS})
    found = direct_addresses(load_config(file), capabilities)
    assert {str(address) for address in found} == {*own, *more}
    assert len(found) == len(set(found))
