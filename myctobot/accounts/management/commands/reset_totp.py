"""``manage.py reset_totp``: remove the second factor of a user who lost it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser

from myctobot.accounts.second_factor import reset
from myctobot.tenants.management.base import DatabaseCommand


class Command(DatabaseCommand):
    help = (
        "Remove the second factor of a user and end the sessions that have proved it. The password alone then logs "
        "in, until the user sets up a new one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="name of the user")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["user"]
        user = User.objects.filter(username=name).first()
        if user is None:
            raise CommandError(f"There is no user '{name}'.")
        if not reset(user, "manage.py reset_totp"):
            raise CommandError(f"'{name}' has no second factor.")
        self.stdout.write(f"Removed. '{name}' can set up a new one in the panel, on the page 'Second factor'.")
