"""Command ``manage.py bootstrap``: create the first tenant, its login and key, and the local shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from myctobot.stack.bootstrap import bootstrap
from shards.errors import InsecureLink


class Command(BaseCommand):
    help = "Create what a new installation needs: a tenant, a login, an API key and the local shards. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shards", type=int, default=1, help="how many shards to run on this host (default 1)")
        parser.add_argument(
            "--allow-unsandboxed",
            action="store_true",
            help="let the shards run agents without a sandbox where bubblewrap does not work",
        )
        parser.add_argument(
            "--json", action="store_true", help="print one line of JSON: login, password, api_key, shards"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            result = bootstrap(
                home=Path(settings.MYCTOBOT_HOME),
                shards=options["shards"],
                allow_unsandboxed=options["allow_unsandboxed"],
            )
        except InsecureLink as error:
            raise CommandError(error.message) from error
        if options["json"]:
            self.stdout.write(json.dumps(result))
            return
        for name, value in result.items():
            self.stdout.write(f"{name}: {value}")
