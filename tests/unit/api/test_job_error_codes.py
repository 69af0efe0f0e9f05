"""The tables of a job's error codes in docs/jobs.md, compared with the code in both directions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from jobs.errors import UnknownWork
from myctobot.tenants.secrets import SecretNotAllowed

ROOT = Path(__file__).parents[3]
# Calls whose first argument is a code.
_FIRST = {"JobError", "RemoteCause", "AgentFailure"}
# Calls that end a job or an attempt for good with the argument ``code``.
_NAMED = {"end_job", "end_change", "FinishError", "handle_attempt_failure", "failure_change"}
# The claim of an attempt whose secrets or work are gone ends its job with the code of that error.
_OF_CLAIMS = {"secret_unavailable": {False}, SecretNotAllowed.code: {False}, UnknownWork.code: {False}}
# The runner only warns with this code.
_WARNINGS = {"work_not_kept"}
_ANSWERS = {"yes": {True}, "no": {False}, "depends": {True, False}}


def calls() -> Iterator[tuple[ast.expr, ast.Call]]:
    """Yield the code and the call of every error of a job in the source."""
    for folder in ("workers", "jobs"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                named = {keyword.arg: keyword.value for keyword in node.keywords}
                if name in _FIRST and node.args:
                    yield node.args[0], node
                elif name in _NAMED and "code" in named:
                    yield named["code"], node


def in_the_code() -> dict[str, set[bool]]:
    found = {code: set(values) for code, values in _OF_CLAIMS.items()}
    for code, call in calls():
        if isinstance(code, ast.Constant) and isinstance(code.value, str) and code.value not in _WARNINGS:
            flag = next((keyword.value for keyword in call.keywords if keyword.arg == "retryable"), ast.Constant(False))
            assert isinstance(flag, ast.Constant), f"{code.value}: write retryable=True, or leave it out"
            found.setdefault(code.value, set()).add(bool(flag.value))
    return found


def documented() -> dict[str, set[bool]]:
    text = (ROOT / "docs/jobs.md").read_text().partition("A failed or cancelled job has one of these codes")[2]
    found: dict[str, set[bool]] = {}
    for codes, when, answer, action in re.findall(
        r"^\| (`[^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE
    ):
        assert when.strip(), codes
        assert action.strip(), codes
        for code in re.findall(r"`(\w+)`", codes):
            assert code not in found, f"{code} is in two rows"
            found[code] = _ANSWERS[answer.strip()]
    return found


def test_the_tables_have_every_code_and_no_other() -> None:
    code, docs = in_the_code(), documented()
    assert docs.keys() - code.keys() == set(), "no code of a job has this name"
    assert code.keys() - docs.keys() == set(), "add a row to docs/jobs.md"


def test_the_tables_say_what_may_be_tried_again() -> None:
    assert documented() == in_the_code()


def test_a_code_that_is_computed_comes_from_another_error() -> None:
    """Prove that the comparison sees all codes: a code in the source is a text, or an attribute or argument of one."""
    computed = {ast.unparse(code) for code, _ in calls() if not isinstance(code, ast.Constant)}
    assert all(text == "code" or text.endswith(".code") for text in computed), computed
