"""Command ``manage.py login``: show how to log in to the embedded stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from myctobot.stack.errors import StackError
from myctobot.stack.home import Home
from myctobot.stack.login import read_login


class Command(BaseCommand):
    help = "Show the address, the API key and the login of the embedded stack, as its first start created them."
    # System checks need a database, which may not run.
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            rows = read_login(Home(Path(settings.MYCTOBOT_HOME)))
        except StackError as error:
            raise CommandError(error.message) from error
        for name, value in rows.items():
            self.stdout.write(f"{name.ljust(7)}  {value}")
