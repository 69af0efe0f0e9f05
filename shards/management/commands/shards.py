"""``manage.py shards``: what operators do with shards and their containers, from a shell."""

from __future__ import annotations

import getpass
import json
import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from myctobot.errors import InvalidRequest, MyctobotError
from myctobot.tenants.management.base import DatabaseCommand
from shards.inventory import service as managing
from shards.lifecycle.suspensions import find_shard
from shards.models.shard import Pool, Shard, ShardTemplate
from shards.operations import enrolment
from shards.operations import reconciler as reconciling
from shards.operations.models import LIVE_OPERATIONS, Operation, OperationKind, OperationState
from shards.operations.requests import request
from shards.providers import registry

_LOOK_EVERY_S = 0.2
_LABELLED = (OperationKind.SNAPSHOT, OperationKind.RESTORE)
_Answer = tuple[Any, str]


class Command(DatabaseCommand):
    help = "List and add shards, work on their containers, enrol them, and compare providers with what is on record."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        self._verb(verbs, "list", "all shards, and how they are").add_argument("--pool", metavar="NAME")
        add = self._verb(verbs, "add", "put a shard on record, and make it if --provision is given")
        add.add_argument("shard", metavar="SHARD")
        add.add_argument("--template", required=True, metavar="NAME")
        add.add_argument("--provider", default="", choices=["", *registry.names()], help="who makes its container")
        add.add_argument("--pool", metavar="NAME")
        add.add_argument("--slots", type=int, metavar="N", help="instead of the template's")
        add.add_argument(
            "--capability", action="append", metavar="SLUG", help="instead of the template's; may be repeated"
        )
        add.add_argument("--provision", action="store_true")
        self._waiting(add)
        for kind in OperationKind:
            verb = self._waiting(self._verb(verbs, kind.value, kind.label))
            verb.add_argument("shard", metavar="SHARD")
            verb.add_argument("--force", action="store_true", help="jobs that run there may end")
            if kind in _LABELLED:
                verb.add_argument("label", metavar="LABEL", help="of the snapshot")
        for name, what in (("operations", "what was done to a shard's container"), ("enrol", "a one-time token")):
            self._verb(verbs, name, what).add_argument("shard", metavar="SHARD")
        compare = self._verb(verbs, "reconcile", "compare a provider with what is on record")
        compare.add_argument("provider", choices=registry.names())
        compare.add_argument("--repair", action="store_true", help="destroy orphans, call shards lost that are gone")
        self._verb(verbs, "providers", "what keeps providers from working here")

    @staticmethod
    def _verb(verbs: Any, name: str, what: str) -> CommandParser:
        parser: CommandParser = verbs.add_parser(name, help=what, description=what)
        parser.add_argument("--json", action="store_true", help="JSON instead of text")
        parser.add_argument("--by", default="", metavar="NAME", help="who does it (the user of this shell)")
        return parser

    @staticmethod
    def _waiting(parser: CommandParser) -> CommandParser:
        parser.add_argument("--wait", action="store_true", help="until it is done; its steps go to standard error")
        parser.add_argument("--timeout", type=int, default=900, metavar="S", help="of --wait, seconds (900)")
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        options["by"] = options["by"] or f"{getpass.getuser()} (manage.py)"
        verb = options["verb"]
        try:
            answer, text = self._operate(options) if verb in OperationKind else getattr(self, f"_{verb}")(options)
        except InvalidRequest as error:
            said = " ".join(f"{name}: {' '.join(problems)}" for name, problems in error.fields.items())
            raise CommandError(said or error.message, returncode=2) from error
        except MyctobotError as error:
            raise CommandError(error.message, returncode=2) from error
        self.stdout.write(json.dumps(answer, default=str) if options["json"] else text)

    def _list(self, options: dict[str, Any]) -> _Answer:
        rows = Shard.objects.select_related("pool").order_by("name")
        if options["pool"]:
            rows = rows.filter(pool__name=options["pool"])
        found = [_shown(shard) for shard in rows.iterator()]
        return found, "\n".join(_line(shard) for shard in found) or "There are no shards."

    def _add(self, options: dict[str, Any]) -> _Answer:
        template = _named(ShardTemplate, options["template"], "template")
        pool = _named(Pool, options["pool"], "pool") if options["pool"] else None
        facts = managing.facts_of_template(template)
        if options["slots"] is not None:
            facts["max_concurrent_jobs"] = options["slots"]
        if options["capability"]:
            facts["capabilities"] = options["capability"]
        shard = Shard(name=options["shard"], template=template, pool=pool, provider=options["provider"], **facts)
        managing.add(shard, by=options["by"])
        if not options["provision"]:
            return _shown(shard), f"Shard {shard.name} is on record."
        return self._follow(request(shard, OperationKind.PROVISION, by=options["by"]), options)

    def _operate(self, options: dict[str, Any]) -> _Answer:
        arguments = {"label": options["label"]} if options["verb"] in _LABELLED else {}
        shard = find_shard(options["shard"])
        operation = request(shard, options["verb"], by=options["by"], force=options["force"], **arguments)
        return self._follow(operation, options)

    def _follow(self, operation: Operation, options: dict[str, Any]) -> _Answer:
        """Say that it was asked for; with ``--wait``, show its steps until it ends."""
        if not options["wait"]:
            return _operation(operation), f"Asked for: {operation.kind} of shard {operation.shard.name}."
        deadline, shown = time.monotonic() + options["timeout"], 0
        while True:
            operation.refresh_from_db()
            for step in operation.steps[shown:]:
                self.stderr.write(f"{step['at'][11:23]} {step['text']}")
            shown = len(operation.steps)
            if operation.state not in LIVE_OPERATIONS:
                break
            if time.monotonic() > deadline:
                raise CommandError(f"Not done within {options['timeout']} s; it goes on.", returncode=3)
            time.sleep(_LOOK_EVERY_S)
        if operation.state == OperationState.FAILED:
            raise CommandError(f"{operation.kind} of shard {operation.shard.name} failed: {operation.error}")
        return _operation(operation), f"Done: {operation.kind} of shard {operation.shard.name}."

    def _operations(self, options: dict[str, Any]) -> _Answer:
        rows = Operation.objects.filter(shard=find_shard(options["shard"])).order_by("-pk")[:20]
        found = [_operation(row) for row in rows]
        lines = [
            f"{row['requested_at']:%Y-%m-%d %H:%M:%S}  {row['kind']}  {row['state']}  {row['error']}" for row in found
        ]
        return found, "\n".join(lines) or "Nothing was done to it yet."

    def _enrol(self, options: dict[str, Any]) -> _Answer:
        token = enrolment.issue_token(find_shard(options["shard"]), by=options["by"])
        minutes = int(enrolment.TOKEN_LIFE.total_seconds() // 60)
        self.stderr.write(
            f"One-time token for '{options['shard']}', good for {minutes} minutes; it is shown this once."
        )
        return {"shard": options["shard"], "token": token}, token

    def _reconcile(self, options: dict[str, Any]) -> _Answer:
        found = reconciling.reconcile(options["provider"], repair=options["repair"])
        rows = [
            {"kind": one.kind.value, "ref": one.ref, "name": one.name, "may_repair": one.may_repair} for one in found
        ]
        lines = [f"{one}{'' if one.may_repair else '; left alone for now'}" for one in found]
        return rows, "\n".join(lines) or "No differences."

    def _providers(self, options: dict[str, Any]) -> _Answer:
        found = {name: registry.provider(name).problems() for name in registry.names()}
        lines = [f"{name}: {'; '.join(problems) or 'works here'}" for name, problems in found.items()]
        return found, "\n".join(lines)


def _named(model: Any, name: str, field: str) -> Any:
    row = model.objects.filter(name=name).first()
    if row is None:
        known = ", ".join(model.objects.order_by("name").values_list("name", flat=True)[:20]) or "none"
        raise InvalidRequest(fields={field: [f"There is no {field} '{name[:60]}'; there are: {known}."]})
    return row


def _shown(shard: Shard) -> dict[str, Any]:
    return {
        "name": shard.name,
        "state": shard.state,
        "class": shard.shard_class,
        "provider": shard.provider,
        "ref": shard.provider_ref,
        "running": len(shard.report.get("running", [])),
        "slots": shard.max_concurrent_jobs,
        "is_spare": shard.is_spare,
        "last_heartbeat_at": shard.last_heartbeat_at,
        "reason": shard.state_reason,
    }


def _line(shard: dict[str, Any]) -> str:
    load, spare = f"{shard['running']}/{shard['slots']}", " (spare)" if shard["is_spare"] else ""
    return f"{shard['name']:<24} {shard['state']:<12} {load:<6} {shard['provider'] or '-':<8} {shard['class']}{spare}"


def _operation(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.pk,
        "shard": operation.shard.name,
        "kind": operation.kind,
        "state": operation.state,
        "steps": operation.steps,
        "error": operation.error,
        "requested_by": operation.requested_by,
        "requested_at": operation.requested_at,
        "ended_at": operation.ended_at,
    }
