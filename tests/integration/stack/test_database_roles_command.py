"""SQL that ``manage.py database_roles`` prints."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from myctobot.stack.database_roles import RIGHTS, role_name
from myctobot.tenants.models import Secret

pytestmark = pytest.mark.django_db


def test_the_printed_sql_gives_each_role_its_rights() -> None:
    output = StringIO()
    call_command("database_roles", stdout=output)
    with connection.cursor() as cursor:
        # The roles of the test run's server exist already.
        cursor.execute("".join(line for line in output.getvalue().splitlines(True) if not line.startswith("CREATE")))
        allowed = set()
        for role in RIGHTS:
            cursor.execute("SELECT has_table_privilege(%s, %s, 'SELECT')", [role_name(role), Secret._meta.db_table])
            allowed |= {role} if cursor.fetchone() == (True,) else set()
    assert allowed == {"web", "shardapi", "gateway"}
