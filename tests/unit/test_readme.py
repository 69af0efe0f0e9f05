"""The README's way from a provider key to the first real job: its commands are those that there are."""

from __future__ import annotations

import re
import shlex

from django.core.management import load_command_class

from myctobot.cli.options import read_options
from myctobot.stack.plan import CHECKOUT

_PAGE = re.sub(r" \\\n +", " ", (CHECKOUT / "README.md").read_text())
_SECTION = _PAGE.partition("## Your first real job\n")[2].partition("\n## ")[0]
LINES = [line.strip() for line in _SECTION.splitlines() if line.startswith("    ")]


def test_the_way_has_five_lines() -> None:
    assert len(LINES) == 5
    assert LINES[0] == "GATEWAY_UPSTREAM=anthropic make up"


def test_each_command_is_accepted() -> None:
    stored = {}
    for line in LINES[1:3]:
        program, name, *arguments = shlex.split(line.partition(" < ")[0])[1:]
        assert (program, name) == ("manage.py", "store_secret")
        options = load_command_class("myctobot.tenants", name).create_parser("manage.py", name).parse_args(arguments)
        stored[options.purpose] = options.name
    job = read_options(shlex.split(LINES[4])[1:])
    assert (job.anthropic_key_secret, job.repo_token_secret) == (stored["provider"], stored["repository"])


def test_the_client_gets_its_two_variables() -> None:
    assert re.findall(r"\b(MYCTOBOT_\w+)=", LINES[3]) == ["MYCTOBOT_URL", "MYCTOBOT_API_KEY"]
