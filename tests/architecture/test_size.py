"""Limits on the length of files and functions. The limits are high: the median function has about eight lines."""

from __future__ import annotations

from .source import modules

MAX_FUNCTION = 60
MAX_FILE = 400
EVERYTHING = modules("jobs", "myctobot", "scripts", "shards", "workers", "tests")


def test_files_are_short() -> None:
    long = [f"{one.where} ({lines} lines)" for one in EVERYTHING if (lines := one.text.count("\n")) > MAX_FILE]
    assert not long, f"{long}: a file has at most {MAX_FILE} lines; move its second subject to a file of its own"


def test_functions_are_short() -> None:
    long = [
        f"{module.where}: {function.name} ({length} lines)"
        for module in EVERYTHING
        for function in module.functions()
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION
    ]
    assert not long, f"{long}: a function has at most {MAX_FUNCTION} lines; move each step to a function with a name"
