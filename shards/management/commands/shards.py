"""``manage.py shards``: management of shards and their containers from a shell."""

from __future__ import annotations

import getpass
import json
import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from myctobot.errors import InvalidRequest, MyctobotError
from myctobot.tenants.management.base import DatabaseCommand
from shards.inventory import service
from shards.lifecycle.suspensions import find_shard
from shards.models import Pool, Shard, ShardTemplate
from shards.operations import enrolment, reconciler
from shards.operations.models import LIVE_OPERATIONS, Operation, OperationKind, OperationState
from shards.operations.requests import request
from shards.providers import registry

_POLL_EVERY_S = 0.2
_NEEDS_LABEL = (OperationKind.SNAPSHOT, OperationKind.RESTORE)
# Value for --json, and text.
_Output = tuple[Any, str]


class Command(DatabaseCommand):
    help = "List, add and enrol shards, run operations on their containers, and reconcile providers."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        self._verb(verbs, "list", "list shards with their state").add_argument("--pool", metavar="NAME")
        add = self._verb(verbs, "add", "add a shard, and provision it with --provision")
        add.add_argument("shard", metavar="SHARD")
        add.add_argument("--template", required=True, metavar="NAME")
        add.add_argument("--provider", default="", choices=["", *registry.names()], help="provider of its container")
        add.add_argument("--pool", metavar="NAME")
        add.add_argument("--slots", type=int, metavar="N", help="instead of the template's")
        add.add_argument(
            "--capability", action="append", metavar="SLUG", help="instead of the template's; may be repeated"
        )
        add.add_argument("--provision", action="store_true")
        self._wait_options(add)
        for kind in OperationKind:
            verb = self._wait_options(self._verb(verbs, kind.value, kind.label))
            verb.add_argument("shard", metavar="SHARD")
            verb.add_argument("--force", action="store_true", help="running jobs may end")
            if kind in _NEEDS_LABEL:
                verb.add_argument("label", metavar="LABEL", help="label of the snapshot")
        for name, text in (("operations", "list a shard's operations"), ("enrol", "issue a one-time enrolment token")):
            self._verb(verbs, name, text).add_argument("shard", metavar="SHARD")
        compare = self._verb(verbs, "reconcile", "compare a provider's containers with the database")
        compare.add_argument("provider", choices=registry.names())
        compare.add_argument(
            "--repair", action="store_true", help="destroy orphans, mark shards without container lost"
        )
        self._verb(verbs, "providers", "check the configuration of providers")

    @staticmethod
    def _verb(verbs: Any, name: str, text: str) -> CommandParser:
        parser: CommandParser = verbs.add_parser(name, help=text, description=text)
        parser.add_argument("--json", action="store_true", help="JSON instead of text")
        parser.add_argument("--by", default="", metavar="NAME", help="actor for the audit log (the user of this shell)")
        return parser

    @staticmethod
    def _wait_options(parser: CommandParser) -> CommandParser:
        parser.add_argument("--wait", action="store_true", help="wait for the end; steps go to standard error")
        parser.add_argument("--timeout", type=int, default=900, metavar="S", help="limit of --wait in seconds (900)")
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        options["by"] = options["by"] or f"{getpass.getuser()} (manage.py)"
        verb = options["verb"]
        try:
            value, text = self._operate(options) if verb in OperationKind else getattr(self, f"_{verb}")(options)
        except InvalidRequest as error:
            message = " ".join(f"{name}: {' '.join(problems)}" for name, problems in error.fields.items())
            raise CommandError(message or error.message, returncode=2) from error
        except MyctobotError as error:
            raise CommandError(error.message, returncode=2) from error
        self.stdout.write(json.dumps(value, default=str) if options["json"] else text)

    def _list(self, options: dict[str, Any]) -> _Output:
        rows = Shard.objects.select_related("pool").order_by("name")
        if options["pool"]:
            rows = rows.filter(pool__name=options["pool"])
        found = [_shard_facts(shard) for shard in rows.iterator()]
        return found, "\n".join(_line(shard) for shard in found) or "There are no shards."

    def _add(self, options: dict[str, Any]) -> _Output:
        template = _named(ShardTemplate, options["template"], "template")
        pool = _named(Pool, options["pool"], "pool") if options["pool"] else None
        facts = service.facts_of_template(template)
        if options["slots"] is not None:
            facts["max_concurrent_jobs"] = options["slots"]
        if options["capability"]:
            facts["capabilities"] = options["capability"]
        shard = Shard(name=options["shard"], template=template, pool=pool, provider=options["provider"], **facts)
        service.add(shard, by=options["by"])
        if not options["provision"]:
            return _shard_facts(shard), f"Shard {shard.name} is added."
        return self._follow(request(shard, OperationKind.PROVISION, by=options["by"]), options)

    def _operate(self, options: dict[str, Any]) -> _Output:
        arguments = {"label": options["label"]} if options["verb"] in _NEEDS_LABEL else {}
        shard = find_shard(options["shard"])
        operation = request(shard, options["verb"], by=options["by"], force=options["force"], **arguments)
        return self._follow(operation, options)

    def _follow(self, operation: Operation, options: dict[str, Any]) -> _Output:
        """Report the request, or with ``--wait`` show the steps until the operation ends."""
        if not options["wait"]:
            return _operation(operation), f"Requested: {operation.kind} of shard {operation.shard.name}."
        deadline, shown = time.monotonic() + options["timeout"], 0
        while True:
            operation.refresh_from_db()
            for step in operation.steps[shown:]:
                self.stderr.write(f"{step['at'][11:23]} {step['text']}")
            shown = len(operation.steps)
            if operation.state not in LIVE_OPERATIONS:
                break
            if time.monotonic() > deadline:
                message = f"The operation has not ended within {options['timeout']} s; it continues."
                raise CommandError(message, returncode=3)
            time.sleep(_POLL_EVERY_S)
        if operation.state == OperationState.FAILED:
            raise CommandError(f"{operation.kind} of shard {operation.shard.name} failed: {operation.error}")
        return _operation(operation), f"Done: {operation.kind} of shard {operation.shard.name}."

    def _operations(self, options: dict[str, Any]) -> _Output:
        rows = Operation.objects.filter(shard=find_shard(options["shard"])).order_by("-pk")[:20]
        found = [_operation(row) for row in rows]
        lines = [
            f"{row['requested_at']:%Y-%m-%d %H:%M:%S}  {row['kind']}  {row['state']}  {row['error']}" for row in found
        ]
        return found, "\n".join(lines) or "The shard has no operations."

    def _enrol(self, options: dict[str, Any]) -> _Output:
        token = enrolment.issue_token(find_shard(options["shard"]), by=options["by"])
        minutes = int(enrolment.TOKEN_LIFE.total_seconds() // 60)
        self.stderr.write(
            f"One-time token for '{options['shard']}', valid for {minutes} minutes. It is not shown again."
        )
        return {"shard": options["shard"], "token": token}, token

    def _reconcile(self, options: dict[str, Any]) -> _Output:
        found = reconciler.reconcile(options["provider"], repair=options["repair"])
        rows = [
            {"kind": one.kind.value, "ref": one.ref, "name": one.name, "may_repair": one.may_repair} for one in found
        ]
        lines = [f"{one}{'' if one.may_repair else '; not repaired yet'}" for one in found]
        return rows, "\n".join(lines) or "No differences."

    def _providers(self, options: dict[str, Any]) -> _Output:
        found = {name: registry.provider(name).problems() for name in registry.names()}
        lines = [f"{name}: {'; '.join(problems) or 'works here'}" for name, problems in found.items()]
        return found, "\n".join(lines)


def _named(model: Any, name: str, field: str) -> Any:
    row = model.objects.filter(name=name).first()
    if row is None:
        known = ", ".join(model.objects.order_by("name").values_list("name", flat=True)[:20]) or "none"
        raise InvalidRequest(fields={field: [f"There is no {field} '{name[:60]}'; there are: {known}."]})
    return row


def _shard_facts(shard: Shard) -> dict[str, Any]:
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
