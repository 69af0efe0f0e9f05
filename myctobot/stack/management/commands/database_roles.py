"""Command ``manage.py database_roles``: print the roles of the programs for a database of the operator's own."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection

from myctobot.stack.database_roles import RIGHTS, grants, role_name


class Command(BaseCommand):
    help = "Print SQL that creates a role for each program. The embedded database gets these roles by itself."

    def handle(self, *args: Any, **options: Any) -> None:
        tables = connection.introspection.table_names()
        connection.ensure_connection()
        roles = [role_name(role) for role in RIGHTS]
        self.stdout.write("-- Once. Then set a password for each role.")
        for role in roles:
            self.stdout.write(f"CREATE ROLE {role} LOGIN;")
        self.stdout.write(f"GRANT USAGE ON SCHEMA public TO {', '.join(roles)};")
        self.stdout.write("-- After each migration.")
        for statement in grants(tables):
            self.stdout.write(f"{statement.as_string(connection.connection)};")
