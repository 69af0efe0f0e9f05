"""Login of a stack, also of one that does not run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from myctobot.stack.errors import StackError
from myctobot.stack.home import GeneratedSecrets, Home
from myctobot.stack.login import read_login


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def test_without_a_stack_it_says_how_to_create_one(home: Home) -> None:
    with pytest.raises(StackError, match=r"no stack in .* yet\. 'make up' creates one"):
        read_login(home)


def test_a_running_stack_has_its_address(home: Home) -> None:
    password = GeneratedSecrets.load_or_create(home.root).admin_password
    (home.root / "api_key").write_text("mctb_key\n")
    home.status.write_text(json.dumps({"pid": os.getpid(), "urls": {"web": "http://127.0.0.1:1"}}))
    assert read_login(home) == {
        "Web": "http://127.0.0.1:1/jobs/",
        "Admin": "http://127.0.0.1:1/admin/",
        "API key": "mctb_key",
        "Login": f"admin / {password}",
    }


@pytest.mark.parametrize("status", [None, "{", "[]", '{"pid": 0, "urls": {"web": "http://127.0.0.1:1"}}'])
def test_a_stopped_or_killed_stack_has_none(home: Home, status: str | None) -> None:
    GeneratedSecrets.load_or_create(home.root)
    if status is not None:
        home.status.write_text(status)
    rows = read_login(home)
    assert rows["Web"] == "not running; 'make up' starts it"
    assert list(rows)[-1] == "Login"
