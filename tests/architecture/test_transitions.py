"""Writers of a job's status and waiting fields: only the transition table defines the values."""

from __future__ import annotations

import ast
import re

import pytest

from jobs.models.states import ALLOWED, Hold
from jobs.models.transition_table import ALL_TRANSITIONS, OWNED_COLUMNS, JobTransition
from myctobot.contract.jobs import JobStatus

from .source import modules

TABLE = "jobs.models.transition_table"
# These modules prepare a row that is not stored yet, so no transition exists.
NEW_ROWS = {"jobs.lifecycle.submit", "jobs.lifecycle.secrets"}
WRITERS = [module for module in modules("jobs", "shards", "myctobot") if ".migrations." not in module.name]
FIELDS = {*OWNED_COLUMNS, "encrypted_secrets"}
SQL_UPDATE = re.compile(
    r"\bUPDATE\s+jobs_job\b(?:\s+AS\s+\w+)?\s+SET\b(.*?)(?:\bWHERE\b|\bFROM\b|\bRETURNING\b|$)", re.S
)
ASSIGNMENT = re.compile(r"(?:^|,)\s*(\w+)\s*=")


def text_of(node: ast.expr) -> str:
    """Return a string with each expression replaced by a word that is not a column name."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "_made_" for part in parts)


def names_job(node: ast.expr) -> bool:
    """Tell whether a call or an attribute starts at the model, such as ``Job.objects.filter(…)``."""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return isinstance(node, ast.Name) and node.id in ("Job", "job", "jobs", "old")


def writes(tree: ast.AST) -> list[tuple[int, str]]:
    """Return the lines that set one of the fields, with the field."""
    found: list[tuple[int, str]] = []
    inner = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node not in inner:
            for match in SQL_UPDATE.finditer(text_of(node)):
                found += [(node.lineno, name) for name in ASSIGNMENT.findall(match[1])]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
            if names_job(node.func.value):
                found += [(node.lineno, word.arg or "**") for word in node.keywords]
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [each for target in targets for each in ast.walk(target) if isinstance(each, ast.Attribute)]
            found += [(node.lineno, name.attr) for name in names if names_job(name.value)]
    return [(line, name) for line, name in found if name in FIELDS or name == "**"]


def test_only_transitions_set_status_and_waiting_columns() -> None:
    wrong = [
        f"{module.where}:{line}: {name}"
        for module in WRITERS
        if module.name not in NEW_ROWS
        for line, name in writes(module.tree)
    ]
    assert not wrong, (
        f"{wrong}: add a transition to {TABLE} and use its assignments, so that no writer forgets a column"
    )


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("sql = \"UPDATE jobs_job SET status = 'queued' WHERE id = 1\"", "status"),
        ('sql = f"UPDATE jobs_job SET next_seq = 1, hold = {x} WHERE id = 1"', "hold"),
        ('sql = "UPDATE jobs_job AS job SET phase = %s FROM own"', "phase"),
        ("Job.objects.filter(pk=1).update(waiting_code='x')", "waiting_code"),
        ("Job.objects.filter(pk=1).update(**values)", "**"),
        ("job.hold = ''", "hold"),
        ("attempt.job.status, x = 1, 2", None),
        ("Attempt.objects.update(error_code='x')", None),
        ("sql = \"SELECT 1 FROM jobs_job WHERE status = 'queued'\"", None),
        ("sql = f\"UPDATE jobs_job SET {START.assignments} WHERE status = 'queued'\"", None),
    ],
)
def test_the_rule_finds_writes(code: str, field: str | None) -> None:
    assert [name for _, name in writes(ast.parse(code))] == ([field] if field else [])


@pytest.mark.parametrize("transition", ALL_TRANSITIONS, ids=lambda transition: transition.name)
class TestTable:
    def test_its_move_is_allowed_by_the_states(self, transition: JobTransition) -> None:
        assert transition.sources
        if transition.target is not None:
            assert all(transition.target in ALLOWED[source] for source in transition.sources)
            assert {source for source in JobStatus if transition.target in ALLOWED[source]} == transition.sources

    def test_it_clears_the_waiting_columns_of_a_job_that_leaves_the_queue(self, transition: JobTransition) -> None:
        if transition.target not in (None, JobStatus.QUEUED):
            assert transition.columns["hold"] == "''"
            assert transition.columns["queue_deadline"] == "NULL"
            assert transition.columns["waiting_code"] == transition.columns["waiting_reason"] == "''"

    def test_its_condition_selects_exactly_its_sources(self, transition: JobTransition) -> None:
        condition = transition.condition()
        assert {status for status in JobStatus if f"'{status.value}'" in condition.partition(" AND hold")[0]} == (
            transition.sources
        )
        if transition.holds is not None:
            part = condition.partition("hold IN ")[2]
            assert {hold for hold in Hold if f"'{hold.value}'" in part} == transition.holds
