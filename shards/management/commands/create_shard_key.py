"""``manage.py create_shard_key``: a new key and a new password for the broker for a shard, printed this once."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from myctobot.errors import MyctobotError
from myctobot.tenants.management.base import DatabaseCommand
from shards.broker_access.accounts import admit
from shards.errors import BrokerTooOld
from shards.models.shard import Shard

_MAX_NAMED = 20


class Command(DatabaseCommand):
    help = (
        "Give a shard a new key and a broker user of its own, which ends the old ones. The key alone goes to standard "
        "output, or with --json both."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shard", required=True, metavar="NAME", help="the shard's name, as the admin shows it")
        parser.add_argument("--json", action="store_true", help="one line of JSON: shard_id, shard_key, broker_url")

    def handle(self, *args: Any, **options: Any) -> None:
        shard = find_shard(options["shard"])
        had_one = shard.key_hash is not None
        broker_url = self._admit(shard)
        key = shard.issue_key()
        ended = " The old one has ended." if had_one else ""
        self.stderr.write(
            f"The key of '{shard.name}', for shard_key in its config.json. This is the only time it is shown.{ended}"
        )
        if not options["json"]:
            if broker_url:
                self.stderr.write(f"Its broker_url, with a password that is new, too: {broker_url}")
            self.stdout.write(key)
            return
        answer = {"shard_id": shard.name, "shard_key": key, **({"broker_url": broker_url} if broker_url else {})}
        self.stdout.write(json.dumps(answer))

    def _admit(self, shard: Shard) -> str | None:
        try:
            return admit(shard)
        except BrokerTooOld as error:
            self.stderr.write(f"It gets no broker user of its own. {error.message}")
            return None
        except MyctobotError as error:
            raise CommandError(f"{error.message} Nothing has changed.") from error


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
