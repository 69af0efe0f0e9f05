"""Attacks of one program of a running stack on the others: by its role in the database."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import psycopg
import pytest

from myctobot.stack.database_roles import SUPERUSER
from tests.stacks import RunningStack, running_stack

WITH_DATABASE = ("web", "gateway", "control", "operations")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("rights") / "home") as running:
        yield running


def url_of(stack: RunningStack, name: str) -> str:
    """Return the address of the database that a running program has."""
    return psutil.Process(stack.pid_of(name)).environ()["DATABASE_URL"]


def answer(stack: RunningStack, name: str, *statements: str) -> list[psycopg.rows.TupleRow]:
    with psycopg.connect(url_of(stack, name), autocommit=True) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall()


def test_no_two_programs_share_a_role(stack: RunningStack) -> None:
    roles = {answer(stack, name, "SELECT current_user")[0][0] for name in WITH_DATABASE}
    assert len(roles) == len(WITH_DATABASE)


@pytest.mark.parametrize("name", WITH_DATABASE)
def test_no_role_has_a_special_right_or_another_role(stack: RunningStack, name: str) -> None:
    special = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
    found = answer(stack, name, f"SELECT {special} FROM pg_roles WHERE rolname = current_user")  # noqa: S608 - constant
    assert found == [(False,)]
    own = answer(stack, name, "SELECT current_user")
    assert answer(stack, name, "SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'MEMBER')") == own


@pytest.mark.parametrize("name", WITH_DATABASE)
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE planted (id int)",
        "CREATE TEMPORARY TABLE planted (id int)",
        "CREATE SCHEMA planted",
        "CREATE ROLE planted SUPERUSER",
        "ALTER TABLE jobs_job ADD COLUMN planted int",
        "DROP TABLE jobs_eventbatch",
        "TRUNCATE jobs_job CASCADE",
        "COPY shards_shard FROM PROGRAM 'id'",
        "COPY shards_shard TO '/tmp/planted'",
        "SELECT pg_read_file('/etc/passwd')",
        f"SET ROLE {SUPERUSER}",
        "SET ROLE myctobot_owner",
        "SET SESSION AUTHORIZATION myctobot_owner",
        "ALTER ROLE myctobot_owner PASSWORD 'planted'",
        "UPDATE tenants_auditentry SET actor = 'other'",
        "DELETE FROM tenants_auditentry",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_the_database_refuses(stack: RunningStack, name: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        answer(stack, name, statement)


@pytest.mark.parametrize("name", WITH_DATABASE)
def test_no_other_database_and_no_superuser_is_open(stack: RunningStack, name: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(url_of(stack, name), dbname="postgres")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("control", "tenants_secret"),
        ("control", "auth_user"),
        ("operations", "tenants_secret"),
        ("operations", "tenants_callbacksecret"),
        ("gateway", "tenants_callbacksecret"),
        ("gateway", "auth_user"),
        ("gateway", "django_session"),
    ],
)
def test_a_program_reads_no_secret_of_another(stack: RunningStack, name: str, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        answer(stack, name, f"TABLE {table}")


def test_the_gateway_cannot_change_a_row(stack: RunningStack) -> None:
    for statement in ("UPDATE jobs_attempt SET number = 9", "INSERT INTO tenants_apikey (name) VALUES ('planted')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            answer(stack, "gateway", statement)


def test_beat_has_no_login_to_the_database(stack: RunningStack) -> None:
    assert "DATABASE_URL" not in psutil.Process(stack.pid_of("beat")).environ()
