"""``manage.py create_shard_key``: issue a new key and broker password for a shard; both are printed once."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from myctobot.errors import MyctobotError
from myctobot.tenants.audit import record
from myctobot.tenants.management.base import DatabaseCommand
from shards.broker_access.accounts import grant_account
from shards.errors import BrokerTooOld
from shards.models import Shard

_MAX_NAMED = 20


class Command(DatabaseCommand):
    help = (
        "Issue a new key and broker user for a shard, which replace the old ones. Only the key goes to standard "
        "output, or both with --json."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shard", required=True, metavar="NAME", help="name of the shard")
        parser.add_argument("--json", action="store_true", help="one line of JSON: shard_id, shard_key, broker_url")

    def handle(self, *args: Any, **options: Any) -> None:
        shard = find_shard(options["shard"])
        had_one = shard.key_hash is not None
        broker_url = self._grant_account(shard)
        with transaction.atomic():
            key = shard.issue_key()
            record("manage.py create_shard_key", "shard.key_issued", f"shard/{shard.name}", {"replaced": had_one})
        replaced = " The old key is revoked." if had_one else ""
        self.stderr.write(
            f"The key of '{shard.name}', for shard_key in its config.json. It is not shown again.{replaced}"
        )
        if not options["json"]:
            if broker_url:
                self.stderr.write(f"Its broker_url, with a new password: {broker_url}")
            self.stdout.write(key)
            return
        output = {"shard_id": shard.name, "shard_key": key, **({"broker_url": broker_url} if broker_url else {})}
        self.stdout.write(json.dumps(output))

    def _grant_account(self, shard: Shard) -> str | None:
        try:
            return grant_account(shard)
        except BrokerTooOld as error:
            self.stderr.write(f"The shard gets no broker user. {error.message}")
            return None
        except MyctobotError as error:
            raise CommandError(f"{error.message} Nothing has changed.") from error


def find_shard(name: str) -> Shard:
    """Return the shard with this name.

    Raises:
        CommandError: there is none; the message lists known names.
    """
    shard = Shard.objects.filter(name=name).first()
    if shard is None:
        known = ", ".join(Shard.objects.order_by("name").values_list("name", flat=True)[:_MAX_NAMED])
        raise CommandError(f"There is no shard '{name}'. Known: {known or 'none yet; add one in the admin'}.")
    return shard
