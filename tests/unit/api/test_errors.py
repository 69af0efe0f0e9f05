from __future__ import annotations

from typing import Any

import pytest
from rest_framework.exceptions import ErrorDetail, ValidationError

from myctobot.api.errors import error_body, flatten


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({"task": {"branch": ["bad"]}}, {"task.branch": ["bad"]}),
        ({"a": ["x", "y"], "b": ["z"]}, {"a": ["x", "y"], "b": ["z"]}),
        ({"non_field_errors": ["no object"]}, {"request": ["no object"]}),
        ({"task": {"non_field_errors": ["no object"]}}, {"task": ["no object"]}),
        ({"capabilities": {1: ["Must be text."]}}, {"capabilities.1": ["Must be text."]}),
        ({"events": [{}, {"seq": ["missing"]}]}, {"events[1].seq": ["missing"]}),
        (["plain"], {"request": ["plain"]}),
        ("plain", {"request": ["plain"]}),
        ({"a": [ErrorDetail("coded", code="x")]}, {"a": ["coded"]}),
        ({"a\ud800": ["b\udfff"]}, {"a?": ["b?"]}),
    ],
)
def test_nested_errors_become_paths(detail: Any, expected: dict[str, list[str]]) -> None:
    assert flatten(detail) == expected


def test_an_error_repeats_only_the_beginning_of_what_was_sent() -> None:
    name, problems = next(iter(flatten(ValidationError({"x" * 9999: ["y" * 9999]}).detail).items()))
    assert len(name) + len(problems[0]) < 1100


def test_the_body_of_an_error() -> None:
    assert error_body("busy", "Wait.", retryable=True, expected=3) == {
        "error": {"code": "busy", "message": "Wait.", "retryable": True, "expected": 3}
    }
