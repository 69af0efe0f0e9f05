"""The table of error codes in docs/jobs.md, compared with the code."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

from rest_framework import exceptions

import jobs
import myctobot.urls  # noqa: F401  # defines the errors of the REST API
import shards
from myctobot.api.errors import INTERNAL_ERROR, NO_SUCH_ADDRESS
from myctobot.errors import MyctobotError

DOCS = Path(__file__).parents[3] / "docs/jobs.md"
# The fast path answers no call with the first one, and the second one is a page.
NOT_IN_THE_APIS = {"stale_caller", "too_many_logins"}
# REST framework raises these itself.
OF_THE_LIBRARY = (
    exceptions.NotAuthenticated,
    exceptions.AuthenticationFailed,
    exceptions.PermissionDenied,
    exceptions.NotFound,
    exceptions.MethodNotAllowed,
    exceptions.NotAcceptable,
    exceptions.UnsupportedMediaType,
)


def all_errors() -> Iterator[type[MyctobotError]]:
    """Yield the errors of all modules, also of those that a process imports only for its work or by its settings."""
    for package in (jobs, shards):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not re.search(r"\.(migrations|management)\b", found.name):
                importlib.import_module(found.name)
    yield from errors_below(MyctobotError)


def errors_below(base: type[MyctobotError]) -> Iterator[type[MyctobotError]]:
    for error in base.__subclasses__():
        # The gateway's errors have Anthropic's format and a table of their own, and those of the stack are printed.
        if not error.__module__.startswith(("myctobot.gateway", "myctobot.stack", "tests")):
            yield error
            yield from errors_below(error)


def documented() -> dict[str, set[int]]:
    text = DOCS.read_text().partition("## Error codes")[2].partition("A failed or cancelled job")[0]
    found: dict[str, set[int]] = {}
    for status, codes in re.findall(r"^\| (\d{3}) \| ([^|]+) \|", text, re.MULTILINE):
        for code in re.findall(r"`(\w+)`", codes):
            found.setdefault(code, set()).add(int(status))
    return found


def test_every_code_is_documented_with_its_status() -> None:
    expected: dict[str, set[int]] = {
        INTERNAL_ERROR["error"]["code"]: {500},
        NO_SUCH_ADDRESS["error"]["code"]: {404},
    }
    for error in all_errors():
        if error.code not in NOT_IN_THE_APIS:
            expected.setdefault(error.code, set()).add(error.http_status)
    for library_error in OF_THE_LIBRARY:
        expected.setdefault(str(library_error.default_code), set()).add(library_error.status_code)
    assert documented() == expected
