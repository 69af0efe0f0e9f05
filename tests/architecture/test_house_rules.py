"""House rules that no linter checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

import pytest

from .source import Module, modules

PRODUCT = modules()
EVERYTHING = modules("jobs", "myctobot", "scripts", "shards", "workers", "tests")

# Each word is split, so that this file does not contain the words that it searches for.
MARKERS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
BARE_IGNORE = re.compile(r"#\s*type:\s*ignore(?!\[[a-z, -]+\]\s+\S)")
BARE_NOQA = re.compile(r"#\s*noqa(?!:\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*\s+\S)", re.IGNORECASE)
SKIPS = re.compile(r"pytest\.(skip|xfail|mark\.(skip|skipif|xfail))\b")
HTTPX = {"Client", "AsyncClient", "get", "post", "put", "patch", "delete", "request", "stream"}
# This is enough for a docstring, a guard and one call.
MAX_TASK_STATEMENTS = 4


def lines_with(pattern: re.Pattern[str], where: Iterable[Module]) -> list[str]:
    return [
        f"{module.where}:{number}: {line.strip()}"
        for module in where
        # This file contains the patterns themselves.
        if module.name != __name__
        for number, line in enumerate(module.text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_code_contains_no_open_task() -> None:
    wrong = lines_with(MARKERS, EVERYTHING)
    assert not wrong, f"{wrong}: do the work now, or describe the limit in the docs"


def test_a_suppressed_check_has_a_code_and_a_reason() -> None:
    wrong = lines_with(BARE_IGNORE, EVERYTHING) + lines_with(BARE_NOQA, EVERYTHING)
    assert not wrong, f"{wrong}: name the code of the suppressed check and give the reason after it"


def test_no_test_is_skipped() -> None:
    # tests/needs.py skips tests whose programs a machine cannot have, and fails when CI is set.
    wrong = lines_with(SKIPS, [module for module in EVERYTHING if module.name != "tests.needs"])
    assert not wrong, f"{wrong}: a skipped test proves nothing; repair it or remove it"


def test_no_command_runs_in_a_shell() -> None:
    wrong = [
        f"{module.where}:{node.lineno}"
        for module in EVERYTHING
        for callee, node in module.calls()
        if callee in ("os.system", "os.popen", "asyncio.create_subprocess_shell")
        or any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in node.keywords)
    ]
    assert not wrong, f"{wrong}: pass a list of arguments, because a shell would interpret input of tenants as commands"


def test_every_http_client_has_a_timeout() -> None:
    wrong = [
        f"{module.where}:{node.lineno}"
        for module in PRODUCT
        for callee, node in module.calls()
        if callee.partition(".")[0] == "httpx"
        and callee.partition(".")[2] in HTTPX
        and "timeout" not in {word.arg for word in node.keywords}
    ]
    assert not wrong, f"{wrong}: pass a timeout, because a call that never ends occupies its slot forever"


def test_locks_of_files_are_released_in_one_way() -> None:
    # The cache of git's objects also has shared locks and locks of folders, which it releases in the same way.
    known = {"myctobot.contract.file_locks", "workers.git.object_cache"}
    wrong = [
        f"{module.where}:{node.lineno}"
        for module in PRODUCT
        if module.name not in known
        for callee, node in module.calls()
        if callee == "fcntl.flock"
    ]
    assert not wrong, f"{wrong}: use myctobot.contract.file_locks, because a process that just starts keeps other locks"


def test_a_server_in_a_thread_is_stopped_by_its_block() -> None:
    wrong = [
        f"{module.where}:{node.lineno}"
        for module in EVERYTHING
        if module.name != "tests.fixtures.serving"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.keyword) and ast.unparse(node).endswith(".serve_forever")
    ]
    assert not wrong, f"{wrong}: use tests.fixtures.serving, because a thread that outlives its server never ends"


def is_task(decorator: ast.expr) -> bool:
    callee = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(callee).rpartition(".")[2] in ("shared_task", "task")


def test_every_page_of_a_list_is_bounded_in_bytes() -> None:
    wrong = [
        f"{module.where}:{node.lineno}"
        for module in PRODUCT
        for callee, node in module.calls()
        if callee.endswith("get_paginated_response")
    ]
    assert not wrong, f"{wrong}: answer with Pages().respond(rows, request, Serializer), which bounds the page"


def test_a_celery_task_only_calls_a_service_function() -> None:
    wrong = [
        f"{function.name} in {module.where}"
        for module in PRODUCT
        for function in module.functions()
        if any(is_task(decorator) for decorator in function.decorator_list)
        and sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1 > MAX_TASK_STATEMENTS
    ]
    assert not wrong, f"{wrong}: a task calls one service function and returns; move the other statements to a function"


def has_code(module: Module) -> bool:
    return any(isinstance(node, ast.ClassDef | ast.FunctionDef) for node in module.tree.body)


def test_every_module_with_code_has_a_docstring() -> None:
    # Django requires these names, and they name the subject already.
    named = ("apps.py", "urls.py")
    asked = [module for module in PRODUCT if has_code(module) and module.path.name not in named]
    wrong = [module.where for module in asked if not ast.get_docstring(module.tree)]
    assert not wrong, f"{wrong}: add a docstring with one sentence that names the subject of the module"


def test_every_function_has_a_return_annotation() -> None:
    wrong = [
        f"{function.name} in {module.where}"
        for module in EVERYTHING
        for function in module.functions()
        if function.returns is None
    ]
    assert not wrong, f"{wrong}: annotate the return type"


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
def test_the_patterns_match(pattern: re.Pattern[str], line: str, found: bool) -> None:
    assert bool(pattern.search(line)) is found
