"""``manage.py broker_access``: the shards' users in the broker."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from myctobot.errors import MyctobotError
from myctobot.tenants.management.base import DatabaseCommand
from shards.broker_access import acl_rules as rules
from shards.broker_access import redis_acl as server
from shards.broker_access.accounts import accesses
from shards.broker_access.lock import one_at_a_time
from shards.management.commands.create_shard_key import find_shard
from shards.models.shard import Shard

# Lines about one kind of trouble; more of them say nothing more.
_MOST_NAMED = 50


class Command(DatabaseCommand):
    help = "Show, give and check what each shard may do in the broker."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        show = verbs.add_parser("show", help="what the broker lets each shard do")
        show.add_argument("--json", action="store_true", help="one JSON object instead of text")
        apply = verbs.add_parser("apply", help="give a shard its user again, with the password that it has")
        apply.add_argument("--shard", required=True, metavar="NAME")
        verbs.add_parser("check", help="whether the broker can limit shards, and does; exit code 1 when not")
        verbs.add_parser(
            "reconcile", help="make all users what they should be, and remove those of shards that are gone"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {"show": self._show, "apply": self._apply, "check": self._check, "reconcile": self._reconcile}
        try:
            verbs[options["verb"]](options)
        except MyctobotError as error:
            raise CommandError(error.message) from error

    def _show(self, options: dict[str, Any]) -> None:
        found = {name: sorted(known.queues) for name, known in sorted(server.listed().items())}
        if options["json"]:
            users = {name: {"user": rules.user_name(name), "queues": queues} for name, queues in found.items()}
            self.stdout.write(json.dumps(users))
            return
        for name, queues in found.items():
            self.stdout.write(f"{rules.user_name(name)}  takes from {', '.join(queues) or 'nothing'}")
        if not found:
            self.stdout.write("No shard has a user of its own.")

    def _apply(self, options: dict[str, Any]) -> None:
        shard = find_shard(options["shard"])
        if not shard.broker_password_hash:
            raise CommandError(
                f"'{shard.name}' has no password of its own: enrol it, or use create_shard_key --shard {shard.name}."
            )
        with one_at_a_time():
            server.grant(shard.name, shard.queues, shard.broker_password_hash)
        self.stdout.write(f"{rules.user_name(shard.name)} may take from {', '.join(shard.queues)}.")

    def _check(self, options: dict[str, Any]) -> None:
        found = server.version()
        if not rules.supports(found):
            raise CommandError(
                f"The broker is a Redis {found[0]}.{found[1]}; users of shards need 7.0 or newer, or Valkey."
            )
        known, wanted = server.listed(), {access.name: access for access in accesses()}
        without = Shard.objects.filter(is_active=True, broker_password_hash=None, key_hash__isnull=False)
        names = without.order_by("name").values_list("name", flat=True)
        problems = [
            *(
                f"{name} has a user, and is no shard that has a password"
                for name in sorted(known.keys() - wanted.keys())
            ),
            *(f"{name} has no user" for name in sorted(wanted.keys() - known.keys())),
            *(
                f"{name} may take from {', '.join(sorted(known[name].queues))}, not {', '.join(wanted[name].queues)}"
                for name in sorted(known.keys() & wanted.keys())
                if known[name].queues != set(wanted[name].queues)
            ),
            *(f"{name} uses a password that is not its own" for name in names[:_MOST_NAMED]),
        ]
        if problems:
            raise CommandError("\n".join([*problems, "'broker_access reconcile' repairs users."]))
        self.stdout.write(f"{len(known)} shards, each with a user of its own.")

    def _reconcile(self, options: dict[str, Any]) -> None:
        with one_at_a_time():
            result = server.reconcile(accesses())
        for what in ("added", "changed", "removed"):
            for name in getattr(result, what):
                self.stdout.write(f"{what} {rules.user_name(name)}")
        if not result:
            self.stdout.write("Nothing to do.")
