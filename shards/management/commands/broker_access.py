"""``manage.py broker_access``: management of the shards' broker users."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from myctobot.errors import MyctobotError
from myctobot.tenants.management.base import DatabaseCommand
from shards.broker_access import acl_rules, redis_acl
from shards.broker_access.accounts import accounts
from shards.broker_access.lock import one_at_a_time
from shards.management.commands.create_shard_key import find_shard
from shards.models import Shard

# Maximum number of shards to list for one problem.
_MAX_NAMED = 50


class Command(DatabaseCommand):
    help = "Show, grant and check the shards' rights in the broker."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        show = verbs.add_parser("show", help="show each shard's broker user and queues")
        show.add_argument("--json", action="store_true", help="one JSON object instead of text")
        apply = verbs.add_parser("apply", help="create a shard's user again with its present password")
        apply.add_argument("--shard", required=True, metavar="NAME")
        verbs.add_parser("check", help="check that the broker limits each shard; exit code 1 if not")
        verbs.add_parser("reconcile", help="repair all users, and remove those of shards that are gone")

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {"show": self._show, "apply": self._apply, "check": self._check, "reconcile": self._reconcile}
        try:
            verbs[options["verb"]](options)
        except MyctobotError as error:
            raise CommandError(error.message) from error

    def _show(self, options: dict[str, Any]) -> None:
        found = {name: sorted(known.queues) for name, known in sorted(redis_acl.listed().items())}
        if options["json"]:
            users = {name: {"user": acl_rules.user_name(name), "queues": queues} for name, queues in found.items()}
            self.stdout.write(json.dumps(users))
            return
        for name, queues in found.items():
            self.stdout.write(f"{acl_rules.user_name(name)}  reads {', '.join(queues) or 'nothing'}")
        if not found:
            self.stdout.write("No shard has its own user.")

    def _apply(self, options: dict[str, Any]) -> None:
        shard = find_shard(options["shard"])
        if not shard.broker_password_hash:
            raise CommandError(
                f"'{shard.name}' has no password: enrol it, or use create_shard_key --shard {shard.name}."
            )
        with one_at_a_time():
            redis_acl.grant(shard.name, shard.queues, shard.broker_password_hash)
        self.stdout.write(f"{acl_rules.user_name(shard.name)} may read {', '.join(shard.queues)}.")

    def _check(self, options: dict[str, Any]) -> None:
        found = redis_acl.version()
        if not acl_rules.supports(found):
            raise CommandError(
                f"The broker is Redis {found[0]}.{found[1]}; the shards' users need 7.0 or newer, or Valkey."
            )
        known, wanted = redis_acl.listed(), {access.name: access for access in accounts()}
        without = Shard.objects.filter(is_active=True, broker_password_hash=None, key_hash__isnull=False)
        names = without.order_by("name").values_list("name", flat=True)
        problems = [
            *(
                f"{name} has a user, but no shard with this name has a password"
                for name in sorted(known.keys() - wanted.keys())
            ),
            *(f"{name} has no user" for name in sorted(wanted.keys() - known.keys())),
            *(
                f"{name} may read {', '.join(sorted(known[name].queues))} instead of {', '.join(wanted[name].queues)}"
                for name in sorted(known.keys() & wanted.keys())
                if known[name].queues != set(wanted[name].queues)
            ),
            *(f"{name} uses a shared broker password" for name in names[:_MAX_NAMED]),
        ]
        if problems:
            raise CommandError("\n".join([*problems, "'broker_access reconcile' repairs users."]))
        self.stdout.write(f"{len(known)} shards, each with its own user.")

    def _reconcile(self, options: dict[str, Any]) -> None:
        with one_at_a_time():
            result = redis_acl.reconcile(accounts())
        for change in ("added", "changed", "removed"):
            for name in getattr(result, change):
                self.stdout.write(f"{change} {acl_rules.user_name(name)}")
        if not result:
            self.stdout.write("Nothing to do.")
