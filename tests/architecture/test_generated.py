"""Agreement of generated files and addresses with the code."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.urls import get_resolver

from myctobot.contract.jobs import JobStatus


def test_the_api_schema_is_generated_without_warnings(tmp_path: Path) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yaml"))


def test_the_schema_contains_all_member_operations_and_no_shard_operation(tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"
    call_command("spectacular", "--file", str(file))
    schema = file.read_text()
    for name in ("create", "list", "read", "cancel", "retry", "events", "download", "ticket", "stream", "estimate"):
        assert f"operationId: jobs_{name}\n" in schema, f"the API schema lacks the operation jobs_{name}"
    assert "/shard/" not in schema, "the API schema describes members' operations only, not those of shards"
    missing = [status.value for status in JobStatus if f"- {status.value}\n" not in schema]
    assert not missing, f"the API schema lacks the job states {missing}"


def test_the_schema_names_the_permissions_of_operators_calls(tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"
    call_command("spectacular", "--file", str(file))
    schema = " ".join(file.read_text().split())
    for sentence in ("Needs shards.add_shard.", "Needs shards.change_pool or shards.change_shard."):
        assert sentence in schema, f"the API schema lacks “{sentence}”"


@pytest.mark.django_db
def test_every_model_change_has_a_migration() -> None:
    out = StringIO()
    try:
        call_command("makemigrations", "--check", "--dry-run", stdout=out)
    except SystemExit:
        pytest.fail(f"a model changed without a migration; run 'make migrations':\n{out.getvalue()}")


def test_django_system_checks_report_no_warning() -> None:
    call_command("check", fail_level="WARNING")


def test_api_urls_start_with_their_version() -> None:
    roots = {str(entry.pattern) for entry in get_resolver().url_patterns}
    assert {root for root in roots if root.startswith(("api/", "shard/"))} == {
        "api/v1/",
        "api/schema/",
        "api/docs/",
        "shard/v1/",
    }, "put each API address below its version, so that a later version can exist next to it"
