"""Attacks of one program of a running stack on the others: by its user on the host, and by its role in the database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

from myctobot.stack.database_roles import SUPERUSER
from myctobot.stack.plan import CHECKOUT
from myctobot.stack.postgres import EmbeddedPostgres
from myctobot.stack.programs import DropRoot, Program
from myctobot.stack.users import NUMBERS
from tests.stacks import RunningStack, running_stack

# Programs that root starts as users of their own. The others need root's rights.
OWN_USER = ("postgres", "redis", "web", "gateway", "control", "beat")
WITH_DATABASE = ("web", "gateway", "control", "operations")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("rights") / "home") as running:
        yield running


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def read_as(number: int, *paths: Path, stack: RunningStack) -> str:
    """Return what a program with the user of another program reads, and its errors."""
    command = Program("probe", ("cat", "--", *map(str, paths)), {"PATH": os.defpath, "LC_ALL": "C"}, stack.home)
    process = replace(command, drop_root=DropRoot(number, (stack.home,))).popen(subprocess.PIPE)
    return process.communicate(timeout=30)[0].decode(errors="replace")


@pytest.mark.needs("root")
def test_no_two_programs_share_a_user_and_none_has_a_right_of_root(stack: RunningStack) -> None:
    found = {name: status(stack.pid_of(name)) for name in OWN_USER}
    assert len({one["Uid"] for one in found.values()}) == len(OWN_USER)
    for name, one in found.items():
        assert one["Uid"].split() == one["Gid"].split() == [str(NUMBERS[name])] * 4
        assert (one["Groups"], one["NoNewPrivs"]) == ("", "1")
        assert {int(one[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert one["Umask"] == "0077"


@pytest.mark.needs("root")
@pytest.mark.parametrize("name", OWN_USER)
def test_a_program_reads_no_variable_and_no_memory_of_another(stack: RunningStack, name: str) -> None:
    for other in {*OWN_USER, "operations", "shard-local"} - {name}:
        folder = Path(f"/proc/{stack.pid_of(other)}")
        output = read_as(NUMBERS[name], folder / "environ", folder / "mem", stack=stack)
        assert output.count("Permission denied") == 2, output


@pytest.mark.needs("root")
@pytest.mark.parametrize("name", OWN_USER)
def test_a_program_reads_no_file_of_another(stack: RunningStack, name: str) -> None:
    files = {
        "": (stack.home / "secrets.json", stack.home / "env", stack.home / "api_key", stack.shards["local"]),
        "postgres": (stack.home / "pg" / "data" / "PG_VERSION", stack.home / "pg" / "pg_hba.conf"),
        "redis": (stack.home / "redis" / "redis.conf", *(stack.home / "redis").glob("*/users.acl")),
        "beat": (stack.home / "beat" / "schedule",),
    }
    assert all(files.values())
    closed = [path for owner, paths in files.items() for path in paths if owner != name]
    output = read_as(NUMBERS[name], *closed, stack=stack)
    assert output.count("Permission denied") == len(closed) == len(output.splitlines()), output


@pytest.mark.needs("root")
def test_a_program_lists_no_folder_of_the_stack(stack: RunningStack) -> None:
    folders = (stack.home, stack.home / "shards", stack.shards["local"].parent, stack.home / "run", stack.home / "log")
    for folder in folders:
        command = Program("probe", ("ls", str(folder)), {"PATH": os.defpath, "LC_ALL": "C"}, stack.home)
        process = replace(command, drop_root=DropRoot(NUMBERS["web"], (stack.home,))).popen(subprocess.PIPE)
        assert "Permission denied" in process.communicate(timeout=30)[0].decode(), folder


@pytest.mark.needs("root")
@pytest.mark.parametrize("name", OWN_USER)
def test_no_program_logs_in_as_the_superuser_of_the_database(stack: RunningStack, name: str) -> None:
    attack = "import psycopg, sys; psycopg.connect(sys.argv[1])"
    url = EmbeddedPostgres(stack.home).url
    command = Program("probe", (sys.executable, "-c", attack, url), {"PATH": os.defpath}, stack.home)
    python = tuple(Path(path).resolve() for path in (CHECKOUT, sys.prefix, sys.base_prefix))
    process = replace(command, drop_root=DropRoot(NUMBERS[name], (stack.home, *python))).popen(subprocess.PIPE)
    assert "Peer authentication failed" in process.communicate(timeout=30)[0].decode()


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
