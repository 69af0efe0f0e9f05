"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

import pytest

from .source import Module, modules

PRODUCT = modules()
EVERYTHING = modules("jobs", "myctobot", "shards", "workers", "tests")

# Spelled in two halves, so that this file does not hold what it looks for.
MARKERS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
BARE_IGNORE = re.compile(r"#\s*type:\s*ignore(?!\[[a-z, -]+\]\s+\S)")
BARE_NOQA = re.compile(r"#\s*noqa(?!:\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*\s+\S)", re.IGNORECASE)
SKIPS = re.compile(r"pytest\.(skip|xfail|mark\.(skip|skipif|xfail))\b")
HTTPX = {"Client", "AsyncClient", "get", "post", "put", "patch", "delete", "request", "stream"}
# A task's docstring, its guard and its call, over a few lines.
MAX_TASK_STATEMENTS = 4


def lines_with(pattern: re.Pattern[str], where: Iterable[Module]) -> list[str]:
    return [
        f"{module.where}:{number}: {line.strip()}"
        for module in where
        # This file holds what it looks for.
        if module.name != __name__
        for number, line in enumerate(module.text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_nothing_is_left_for_later() -> None:
    wrong = lines_with(MARKERS, EVERYTHING)
    assert not wrong, f"do it now, or write down in the docs why it is not there: {wrong}"


def test_whoever_silences_a_checker_says_what_and_why() -> None:
    wrong = lines_with(BARE_IGNORE, EVERYTHING) + lines_with(BARE_NOQA, EVERYTHING)
    assert not wrong, f"name the code and give the reason after it: {wrong}"


def test_no_test_is_switched_off() -> None:
    # Where a machine cannot have a browser or sshd; with CI set it fails instead.
    wrong = lines_with(SKIPS, [module for module in EVERYTHING if module.name != "tests.needs"])
    assert not wrong, f"a test that does not run proves nothing; repair it or remove it: {wrong}"


def test_no_command_goes_through_a_shell() -> None:
    wrong = [
        f"{module.where}:{node.lineno}"
        for module in EVERYTHING
        for callee, node in module.calls()
        if callee in ("os.system", "os.popen", "asyncio.create_subprocess_shell")
        or any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in node.keywords)
    ]
    assert not wrong, f"{wrong}: pass a list of arguments; a shell reads what tenants write as commands"


def test_every_http_client_has_a_timeout() -> None:
    wrong = [
        f"{module.where}:{node.lineno}"
        for module in PRODUCT
        for callee, node in module.calls()
        if callee.partition(".")[0] == "httpx"
        and callee.partition(".")[2] in HTTPX
        and "timeout" not in {word.arg for word in node.keywords}
    ]
    assert not wrong, f"{wrong}: name a timeout; whoever waits forever holds a slot forever"


def is_task(decorator: ast.expr) -> bool:
    callee = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(callee).rpartition(".")[2] in ("shared_task", "task")


def test_celery_tasks_are_shells() -> None:
    wrong = [
        f"{function.name} in {module.where}"
        for module in PRODUCT
        for function in module.functions()
        if any(is_task(decorator) for decorator in function.decorator_list)
        and sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1 > MAX_TASK_STATEMENTS
    ]
    assert not wrong, f"{wrong}: a task loads, calls one service function and returns; move the work to a function"


def has_code(module: Module) -> bool:
    return any(isinstance(node, ast.ClassDef | ast.FunctionDef) for node in module.tree.body)


def test_every_module_with_code_says_what_it_is_for() -> None:
    # These are named by Django, and say it by that.
    named = ("apps.py", "urls.py")
    asked = [module for module in PRODUCT if has_code(module) and module.path.name not in named]
    wrong = [module.where for module in asked if not ast.get_docstring(module.tree)]
    assert not wrong, f"{wrong}: open with a sentence on what it is for"


def test_every_function_says_what_it_returns() -> None:
    wrong = [
        f"{function.name} in {module.where}"
        for module in EVERYTHING
        for function in module.functions()
        if function.returns is None
    ]
    assert not wrong, f"{wrong}: annotate what they return"


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        (BARE_IGNORE, "x = y  # type: " + "ignore", True),
        (BARE_IGNORE, "x = y  # type: " + "ignore[attr-defined]", True),
        (BARE_IGNORE, "x = y  # type: " + "ignore[attr-defined]  # set by the base class", False),
        (BARE_NOQA, "import x  # no" + "qa", True),
        (BARE_NOQA, "import x  # no" + "qa: F401", True),
        (BARE_NOQA, "import x  # no" + "qa: F401  # registers itself", False),
        (MARKERS, "# TO" + "DO later", True),
    ],
)
def test_the_rules_themselves(pattern: re.Pattern[str], line: str, found: bool) -> None:
    assert bool(pattern.search(line)) is found
