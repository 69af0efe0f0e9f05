"""Rights of the programs' roles in the database, by table."""

from __future__ import annotations

import pytest

from myctobot.stack.database_roles import OWNER, RIGHTS, privileges_of, role_of

TABLES = ("auth_user", "django_migrations", "jobs_job", "shards_shard", "tenants_apikey", "tenants_auditentry")
SECRETS = ("tenants_secret", "tenants_callbacksecret", "accounts_totpdevice")


@pytest.mark.parametrize(
    ("program", "role"),
    [("web", "web"), ("web-2", "web"), ("gateway", "gateway"), ("migrate", OWNER), ("bootstrap", OWNER)],
)
def test_each_program_has_a_role(program: str, role: str) -> None:
    assert role_of(program) == role


def test_the_gateway_only_reads() -> None:
    assert set(privileges_of("gateway", (*TABLES, *SECRETS))) == {"SELECT"}


@pytest.mark.parametrize(
    ("role", "readable"),
    [
        ("web", {*SECRETS}),
        ("shardapi", {"tenants_secret"}),
        ("gateway", {"tenants_secret"}),
        ("control", {"tenants_callbacksecret"}),
        ("operations", set()),
    ],
)
def test_only_the_programs_that_open_them_read_sealed_secrets(role: str, readable: set[str]) -> None:
    allowed = privileges_of(role, (*TABLES, *SECRETS)).values()
    assert {table for tables in allowed for table in tables} & {*SECRETS} == readable


@pytest.mark.parametrize("role", RIGHTS)
def test_no_role_changes_what_the_audit_log_says(role: str) -> None:
    found = [privileges for privileges, tables in privileges_of(role, TABLES).items() if "tenants_auditentry" in tables]
    assert all("DELETE" not in one and not one.endswith("UPDATE") for one in found)


def test_only_the_web_may_use_a_table_that_no_right_names() -> None:
    assert [role for role in RIGHTS if privileges_of(role, ["new_table"])] == ["web"]
