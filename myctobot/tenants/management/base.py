"""What the commands about tenants share."""

from __future__ import annotations

import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.utils import OperationalError

from myctobot.tenants.models import Tenant


class DatabaseCommand(BaseCommand):
    """A command that needs the database; that it does not answer is said in a sentence, with exit code 1."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except OperationalError as error:
            raise CommandError(
                "The database does not answer. Start the stack (make up) in this checkout, or set DATABASE_URL."
            ) from error


class TenantCommand(DatabaseCommand):
    """A command about one tenant, named by ``--tenant``."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="SLUG", help="whose it is; 'default' on a new stack")


def find_tenant(slug: str) -> Tenant:
    """Return the tenant.

    Raises:
        CommandError: there is none; the message names those that there are.
    """
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        known = ", ".join(Tenant.objects.order_by("slug").values_list("slug", flat=True)[:20]) or "none yet"
        raise CommandError(f"There is no tenant '{slug}'. Known: {known}.")
    return tenant


def check_slug(value: str, what: str, limit: int) -> str:
    """Refuse a name that could not stand in a request.

    Raises:
        CommandError: it has other characters than letters, digits, '-' and '_', or too many.
    """
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{limit}}}", value):
        raise CommandError(f"{what} must have 1 to {limit} letters, digits, dashes or underscores.")
    return value
