"""``manage.py bootstrap``: the first tenant, its owner and key, and the local shards; safe to repeat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from myctobot.stack.bootstrap import bootstrap


class Command(BaseCommand):
    help = "Make what a new installation needs: a tenant, a login, an API key and the local shards."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shards", type=int, default=1, help="how many shards to run on this host (default 1)")
        parser.add_argument("--json", action="store_true", help="one line of JSON: login, password, api_key, shards")

    def handle(self, *args: Any, **options: Any) -> None:
        answer = bootstrap(home=Path(settings.MYCTOBOT_HOME), shards=options["shards"])
        if options["json"]:
            self.stdout.write(json.dumps(answer))
            return
        for name, value in answer.items():
            self.stdout.write(f"{name}: {value}")
