from __future__ import annotations

from typing import Any

import pytest
from rest_framework.exceptions import ErrorDetail, ValidationError

from myctobot.api.errors import body_of, error_body, flatten
from myctobot.errors import InvalidRequest, RequestTooLarge


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


def test_an_error_lists_the_first_invalid_fields_and_counts_the_others() -> None:
    error = body_of(InvalidRequest(fields={f"f{number}": ["Wrong."] for number in range(7000)}))["error"]
    assert error["message"] == "f0: Wrong. (and 6999 more)"
    assert len(error["fields"]) == 51
    assert error["fields"]["request"] == ["Has 6950 more invalid fields."]


def test_a_body_that_is_too_large_is_a_problem_of_a_field() -> None:
    error = body_of(RequestTooLarge(1000))["error"]
    assert error["message"] == "body: Has more than 1000 bytes; send a smaller body."
    assert body_of(RequestTooLarge(0))["error"]["fields"] == {"body": ["Send this request without a body."]}
