"""``manage.py create_shard_key``: a new key for a shard, printed this once."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from myctobot.tenants.management.base import DatabaseCommand
from shards.models import Shard

_MAX_NAMED = 20


class Command(DatabaseCommand):
    help = "Give a shard a new key, which ends the old one. The key alone goes to standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shard", required=True, metavar="NAME", help="the shard's name, as the admin shows it")
        parser.add_argument("--json", action="store_true", help="one line of JSON: shard_id, shard_key")

    def handle(self, *args: Any, **options: Any) -> None:
        shard = find_shard(options["shard"])
        had_one = shard.key_hash is not None
        key = shard.issue_key()
        ended = " The old one has ended." if had_one else ""
        self.stderr.write(
            f"The key of '{shard.name}', for shard_key in its config.json. This is the only time it is shown.{ended}"
        )
        self.stdout.write(json.dumps({"shard_id": shard.name, "shard_key": key}) if options["json"] else key)


def find_shard(name: str) -> Shard:
    """Return the shard.

    Raises:
        CommandError: there is none of that name; the message names those that there are.
    """
    shard = Shard.objects.filter(name=name).first()
    if shard is None:
        known = ", ".join(Shard.objects.order_by("name").values_list("name", flat=True)[:_MAX_NAMED])
        raise CommandError(f"There is no shard '{name}'. Known: {known or 'none yet; make one in the admin'}.")
    return shard
