"""The runbook's commands are those that there are: ours by their parsers, Proxmox's by its schema."""

from __future__ import annotations

import re
import shlex

import pytest
from django.core.management import load_command_class

from myctobot.stack.plan import CHECKOUT
from tests.fixtures.proxmox import schema

# A backslash at the end of a line continues the command.
PAGE = re.sub(r" \\\n +", " ", (CHECKOUT / "docs/runbook.md").read_text())
COMMANDS = sorted(
    {line.strip() for line in PAGE.splitlines() if line.startswith("    ") and "manage.py " in line}
    | {f"manage.py {said}" for said in re.findall(r"`manage\.py ([a-z][^`]+)`", PAGE)}
)
PVESH = re.findall(r"^ +(pvesh .+)$", PAGE, re.MULTILINE)
VARIABLES = re.findall(r"^ {8}([A-Z_]+)=", PAGE, re.MULTILINE)
APPS = {
    "django.core": ("migrate", "check"),
    "jobs": ("jobs", "autoscale"),
    "myctobot.stack": ("up", "bootstrap", "database_roles", "login"),
    "myctobot.tenants": ("create_api_key", "callback_keys"),
    "shards": ("shards", "lxc", "egress_proxy", "broker_access"),
}


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_ours_is_one(line: str) -> None:
    said = re.search(r"manage\.py ([^)]+)\)?", line)
    assert said is not None
    name, *arguments = shlex.split(said[1].rstrip('"'), comments=True)
    app = next(app for app, names in APPS.items() if name in names)
    load_command_class(app, name).create_parser("manage.py", name).parse_args(arguments)


@pytest.mark.parametrize("line", PVESH)
def test_each_call_of_proxmox_is_one(line: str) -> None:
    _, verb, path, *rest = shlex.split(line)
    call = schema.find({"create": "POST", "set": "PUT", "get": "GET"}[verb], path)
    assert call is not None
    options = dict(zip([name.removeprefix("--") for name in rest[::2]], rest[1::2], strict=True))
    assert schema.mistakes(call, {**options, **call.in_path}) == {}


def test_each_variable_is_read() -> None:
    source = "".join((CHECKOUT / name).read_text() for name in ("myctobot/settings/__init__.py", "myctobot/env.py"))
    assert VARIABLES
    assert [name for name in VARIABLES if f'"{name.removesuffix("_FILE")}"' not in source and name not in source] == []


def test_something_was_looked_at() -> None:
    assert len(COMMANDS) > 20
    assert len(PVESH) == 2
