"""The API's document: complete for generated clients. Each test that calls the API checks its answers against it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from myctobot.tenants.openapi import summary_of
from tests.fixtures.api_document import codes_of, document, operations
from tests.needs import REDOCLY
from tests.unit.api.test_error_codes import NOT_IN_THE_APIS, all_errors

OPERATIONS = [pytest.param(operation, id=f"{method} {path}") for method, path, operation in operations()]
# The shard API has these, and it has no document.
OF_SHARDS = {"unknown_shard_key", "bad_enrolment", "fenced", "not_claimable", "out_of_order", "work_too_large"}
# Bases of other errors; nothing raises them.
BASES = {"not_found", "conflict"}
# An operation reports these later in its steps, or a shard in its job.
REPORTED_LATER = {
    *("provider_failed", "provider_refused", "provider_unreachable", "provider_busy", "out_of_room", "not_supported"),
    *("provider_not_trusted", "not_ours", "no_report"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_call_has_a_summary_and_its_errors(operation: dict[str, Any]) -> None:
    assert 3 < len(operation["summary"]) <= 100
    assert operation["description"]
    assert len(operation["tags"]) == 1
    errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
    assert {"400", "401", "403", "413", "429", "500", "503"} <= errors.keys()
    for answer in errors.values():
        assert all(f"`{code}`: " in answer["description"] for code in codes_of(answer))
    assert all("Retry-After" in errors[status]["headers"] for status in ("429", "503"))
    if "requestBody" in operation:
        assert {"408", "415"} <= errors.keys()
        assert "parse_error" in codes_of(errors["400"])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_parameter_has_its_bounds(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        if parameter["in"] == "path":
            assert schema["pattern"], parameter
        elif schema["type"] == "integer":
            assert {"minimum", "maximum", "default"} <= schema.keys(), parameter


def test_every_text_of_a_request_is_bounded_as_the_server_bounds_it() -> None:
    schemas = document()["components"]["schemas"]
    task = schemas["Task"]
    assert task["additionalProperties"] is False
    for name, good, bad in (
        ("prompt", ["x", " x ", "a\nb"], ["", " ", "\n", "a\u0000"]),
        ("issue_key", ["PROJ-123"], ["", "-1", "a b"]),
        ("repo_url", ["https://example.com/a"], ["", "\u0000"]),
    ):
        pattern = re.compile(task["properties"][name]["pattern"])
        assert task["properties"][name]["minLength"] == 1
        assert all(pattern.search(text) for text in good)
        assert not any(pattern.search(text) for text in bad if text)
    capability = re.compile(schemas["JobRequest"]["properties"]["capabilities"]["items"]["pattern"])
    assert capability.search("playwright")
    assert not capability.search("Git")


def test_every_error_of_the_api_is_an_error_of_some_call() -> None:
    documented = {
        code
        for _, _, operation in operations()
        for status, answer in operation["responses"].items()
        if status >= "400"
        for code in codes_of(answer)
    }
    codes = {error.code for error in all_errors()}
    assert codes - documented == (OF_SHARDS | BASES | REPORTED_LATER | NOT_IN_THE_APIS)


def test_every_tag_is_described() -> None:
    described = {tag["name"] for tag in document()["tags"] if tag["description"]}
    assert described == {tag for _, _, operation in operations() for tag in operation["tags"]}


def test_the_document_names_a_server_and_a_license() -> None:
    assert document()["servers"][0]["url"] == "/"
    assert document()["info"]["license"]["identifier"] == "Apache-2.0"


@pytest.mark.needs("redocly")
def test_redocly_finds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "api.json"
    file.write_text(json.dumps(document()))
    # It asks its makers for news, and reports its use, unless these variables are set.
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "CI": "true", "NO_COLOR": "1"}
    run = subprocess.run(
        [REDOCLY, "lint", "--extends=recommended", "--format=json", file],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **quiet},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = json.loads(run.stdout)
    assert (found["totals"]["errors"], found["totals"]["warnings"], found["problems"][:5]) == (0, 0, [])


def parts(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield place, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, inner in items:
        yield from parts(inner, f"{place}/{name}")


def test_null_is_a_type_everywhere() -> None:
    assert [place for place, part in parts(document()) if "nullable" in part] == []


def test_patterns_are_anchored_and_valid() -> None:
    patterns = [part["pattern"] for _, part in parts(document()) if isinstance(part.get("pattern"), str)]
    assert patterns
    for pattern in patterns:
        re.compile(pattern)
        assert pattern.startswith("^"), pattern


@pytest.mark.parametrize(
    ("description", "summary"),
    [
        ("One job.", "One job"),
        ("Start a job. It runs.", "Start a job"),
        ("Lines (https://jsonlines.org)\n  of a job. More.", "Lines (https://jsonlines.org) of a job"),
        ("No full stop", "No full stop"),
        ("", ""),
    ],
)
def test_the_summary_is_the_first_sentence(description: str, summary: str) -> None:
    assert summary_of(description) == summary
