"""Base classes of the commands about tenants."""

from __future__ import annotations

import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.utils import OperationalError

from myctobot.tenants.models import Tenant


class DatabaseCommand(BaseCommand):
    """Command that needs the database; without one it ends with a sentence and exit code 1."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except OperationalError as error:
            raise CommandError(
                "The database does not answer. Start the stack (make up) in this checkout, or set DATABASE_URL."
            ) from error


class TenantCommand(DatabaseCommand):
    """Command about one tenant, which ``--tenant`` names."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="SLUG", help="the tenant; 'default' on a new stack")


def find_tenant(slug: str) -> Tenant:
    """Return the tenant.

    Raises:
        CommandError: no tenant has this slug; the message names the known ones.
    """
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        known = ", ".join(Tenant.objects.order_by("slug").values_list("slug", flat=True)[:20]) or "none yet"
        raise CommandError(f"There is no tenant '{slug}'. Known: {known}.")
    return tenant


def check_slug(value: str, what: str, limit: int) -> str:
    """Return a name if a request can contain it.

    Raises:
        CommandError: it has other characters than letters, digits, '-' and '_', or too many.
    """
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{limit}}}", value):
        raise CommandError(f"{what} must have 1 to {limit} letters, digits, dashes or underscores.")
    return value
