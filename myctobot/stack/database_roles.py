"""Roles of the programs in the embedded database, and the one definition of their rights.

The superuser belongs to the server; only the user who starts the stack can log in as it. ``OWNER`` changes tables:
migrations and the commands of an operator use it. Each other program reads and writes the rows of the tables that it
needs. No role is a member of another one, so a program cannot become another program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier, Literal

SUPERUSER: Final = "myctobot"
OWNER: Final = "owner"

_READ: Final = "SELECT"
_APPEND: Final = "SELECT, INSERT"
_KEEP: Final = "SELECT, INSERT, UPDATE"
_WRITE: Final = "SELECT, INSERT, UPDATE, DELETE"


@dataclass(frozen=True)
class Right:
    """Privileges on the tables whose names match one of the patterns."""

    privileges: str
    tables: tuple[str, ...]


_WORK: Final = (
    Right(_APPEND, ("tenants_auditentry",)),
    Right(_READ, ("tenants_tenant", "tenants_member", "tenants_apikey", "tenants_repositorypolicy")),
    Right(_WRITE, ("jobs_*", "shards_*")),
)
# The first right that matches a table decides. A table that no right matches cannot be used.
RIGHTS: Final[Mapping[str, tuple[Right, ...]]] = {
    "web": (
        # The entries of a tenant that is removed lose their reference to it. Nothing else of an entry changes.
        Right(f"{_APPEND}, UPDATE (tenant_id)", ("tenants_auditentry",)),
        Right(_READ, ("django_migrations",)),
        Right(_WRITE, ("*",)),
    ),
    "shardapi": (Right(_READ, ("tenants_secret",)), *_WORK),
    "gateway": (
        Right(
            _READ,
            ("jobs_attempt", "jobs_job", "tenants_tenant", "tenants_member", "tenants_apikey", "tenants_secret"),
        ),
    ),
    # It signs callbacks, and creates the key of a tenant's first one.
    "control": (Right(_KEEP, ("tenants_callbacksecret",)), *_WORK),
    "operations": _WORK,
}
ROLES: Final = (OWNER, *RIGHTS)


def role_name(role: str) -> str:
    """Return the name in the database of one of ``ROLES``."""
    return f"{SUPERUSER}_{role}"


def role_of(program: str) -> str:
    """Return the role of a program such as ``web-2``; programs without a role of their own prepare the database."""
    kind = program.partition("-")[0]
    return kind if kind in RIGHTS else OWNER


def privileges_of(role: str, tables: Collection[str]) -> dict[str, list[str]]:
    """Return the tables that a role may use, by their privileges. Pure.

    Args:
        role: one of ``RIGHTS``.
        tables: names of all tables.
    """
    found: dict[str, list[str]] = {}
    for table in sorted(tables):
        for right in RIGHTS[role]:
            if any(fnmatchcase(table, pattern) for pattern in right.tables):
                found.setdefault(right.privileges, []).append(table)
                break
    return found


def create_roles(connection: Connection, database: str, passwords: Mapping[str, str]) -> None:
    """Create the roles, change their passwords, and give the database and its tables to the owner's role.

    The tables of an earlier release belong to the superuser.

    Args:
        connection: of the superuser, to the database.
        database: its name.
        passwords: by role.
    """
    owner, name = Identifier(role_name(OWNER)), Identifier(database)
    everyone = SQL(", ").join(Identifier(role_name(role)) for role in ROLES)
    with connection.transaction():
        _store_roles(connection, passwords)
        for other in _databases(connection):
            # Without this, every role may connect to every database and create temporary tables.
            connection.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(Identifier(other)))
        for statement in (
            SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner),
            SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, everyone),
            SQL("REVOKE ALL ON SCHEMA public FROM PUBLIC"),
            SQL("GRANT USAGE ON SCHEMA public TO {}").format(everyone),
            SQL("GRANT CREATE ON SCHEMA public TO {}").format(owner),
        ):
            connection.execute(statement)
        for table in _foreign(connection):
            connection.execute(SQL("ALTER TABLE {} OWNER TO {}").format(Identifier(table), owner))


def grant_rights(connection: Connection) -> None:
    """Grant each role its rights on the present tables, and revoke all others.

    Args:
        connection: of the superuser, to the database.
    """
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    tables = [name for (name,) in found]
    with connection.transaction():
        for statement in grants(tables):
            connection.execute(statement)


def grants(tables: Collection[str]) -> list[Composed]:
    """Return the statements that give each role its rights on some tables, and no other right on a table."""
    found = []
    for role in RIGHTS:
        name = Identifier(role_name(role))
        found.append(SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(name))
        for privileges, allowed in privileges_of(role, tables).items():
            names = SQL(", ").join(map(Identifier, allowed))
            found.append(SQL("GRANT {} ON {} TO {}").format(SQL(privileges), names, name))
    return found


def _store_roles(connection: Connection, passwords: Mapping[str, str]) -> None:
    known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
    for role, password in passwords.items():
        name = role_name(role)
        # The server gets only the verifier, so its log cannot hold the password.
        verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        connection.execute(
            SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}").format(
                SQL("ALTER" if name in known else "CREATE"), Identifier(name), Literal(verifier)
            )
        )


def _databases(connection: Connection) -> list[str]:
    found = connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
    return [name for (name,) in found]


def _foreign(connection: Connection) -> list[str]:
    """Return the tables that do not belong to the owner's role. Their sequences and indexes follow them."""
    found = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tableowner <> %s", [role_name(OWNER)]
    ).fetchall()
    return [name for (name,) in found]
