"""What is small can be read whole. The bounds are upper ones: the median function has about eight lines."""

from __future__ import annotations

from .source import modules

MAX_FUNCTION = 60
MAX_FILE = 400
EVERYTHING = modules("jobs", "myctobot", "shards", "workers", "tests")


def test_files_are_short() -> None:
    long = [f"{one.where} ({lines} lines)" for one in EVERYTHING if (lines := one.text.count("\n")) > MAX_FILE]
    assert not long, f"{long}: at most {MAX_FILE}. Find the second subject in it and give it its own file"


def test_functions_are_short() -> None:
    long = [
        f"{module.where}: {function.name} ({length} lines)"
        for module in EVERYTHING
        for function in module.functions()
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION
    ]
    assert not long, f"{long}: at most {MAX_FUNCTION}. Name the steps and give each a function"
