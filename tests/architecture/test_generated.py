"""What is generated from the code fits the code."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.urls import get_resolver

from myctobot.contract.jobs import JobStatus


def test_the_api_schema_is_made_without_a_warning(tmp_path: Path) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yaml"))


def test_the_schema_has_every_call_of_the_api_and_none_of_the_shards(tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"
    call_command("spectacular", "--file", str(file))
    schema = file.read_text()
    for name in ("create", "list", "read", "cancel", "retry", "events", "download", "ticket", "stream", "estimate"):
        assert f"operationId: jobs_{name}\n" in schema, f"jobs_{name} is missing in the API's schema"
    assert "/shard/" not in schema
    assert all(f"- {status.value}\n" in schema for status in JobStatus)


@pytest.mark.django_db
def test_every_change_of_a_model_has_its_migration() -> None:
    out = StringIO()
    try:
        call_command("makemigrations", "--check", "--dry-run", stdout=out)
    except SystemExit:
        pytest.fail(f"models have changed without a migration; run 'make migrations':\n{out.getvalue()}")


def test_djangos_own_checks_find_nothing() -> None:
    call_command("check", fail_level="WARNING")


def test_every_address_of_the_api_is_under_its_version() -> None:
    roots = {str(entry.pattern) for entry in get_resolver().url_patterns}
    assert {root for root in roots if root.startswith(("api/", "shard/"))} == {
        "api/v1/",
        "api/schema/",
        "api/docs/",
        "shard/v1/",
    }
