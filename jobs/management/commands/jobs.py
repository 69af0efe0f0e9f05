"""``manage.py jobs``: inspect and control jobs and queues."""

from __future__ import annotations

import getpass
import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.dispatch import wakeup
from jobs.lifecycle.requeue import requeue
from jobs.models import Attempt
from jobs.models.states import AttemptState
from jobs.queue import class_status, explain
from myctobot.errors import InvalidRequest, MyctobotError
from shards.lifecycle import suspensions

_POLL_EVERY_S = 1.0


class Command(BaseCommand):
    help = "Explain why a job waits, show queues, drain and resume shards, pause pools and classes, requeue jobs."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        self._verb(verbs, "why", "explain the state of a job").add_argument("job", metavar="JOB")
        self._verb(verbs, "queues", "show the status of shard classes and waiting jobs")
        drain = self._verb(verbs, "drain", "let a shard finish its jobs and give it no new ones")
        drain.add_argument("shard", metavar="SHARD")
        drain.add_argument("--reason", required=True, help="shown to people whose jobs wait")
        drain.add_argument("--wait", action="store_true", help="wait until nothing runs there")
        drain.add_argument("--timeout", type=int, default=3600, metavar="S", help="of --wait, in seconds (3600)")
        self._verb(verbs, "resume", "let a drained shard take jobs again").add_argument("shard", metavar="SHARD")
        pause = self._group(self._verb(verbs, "pause", "send no more jobs to the shards of a pool or a class"))
        pause.add_argument("--reason", required=True, help="shown to people whose jobs wait")
        self._group(self._verb(verbs, "unpause", "undo a pause"))
        self._verb(verbs, "requeue", "invalidate a job's attempt and queue the job again").add_argument(
            "job", metavar="JOB"
        )

    @staticmethod
    def _verb(verbs: Any, name: str, text: str) -> CommandParser:
        parser: CommandParser = verbs.add_parser(name, help=text, description=text)
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
        parser.add_argument("--by", default="", metavar="NAME", help="who does this (default: the shell's user)")
        return parser

    @staticmethod
    def _group(parser: CommandParser) -> CommandParser:
        groups = parser.add_mutually_exclusive_group(required=True)
        groups.add_argument("--pool", metavar="NAME")
        groups.add_argument("--class", dest="shard_class", metavar="CLASS", help="such as filesystem+git")
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        options["by"] = options["by"] or f"{getpass.getuser()} (manage.py)"
        try:
            answer, text = getattr(self, f"_{options['verb']}")(options)
        except InvalidRequest as error:
            sentences = " ".join(sentence for problems in error.fields.values() for sentence in problems)
            raise CommandError(sentences or error.message, returncode=2) from error
        except MyctobotError as error:
            raise CommandError(error.message, returncode=2) from error
        self.stdout.write(json.dumps(answer) if options["json"] else text)

    def _why(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        found = explain.explain_job(options["job"])
        return found, "\n".join(_description(found))

    def _queues(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        found = class_status.queues()
        return found, "\n".join(_table(found))

    def _drain(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        name = options["shard"]
        suspensions.drain(name, by=options["by"], reason=options["reason"])
        wakeup.request_round()
        left = self._wait_idle(name, options["timeout"]) if options["wait"] else _running(name)
        return {
            "shard": name,
            "state": "draining",
            "running": left,
        }, f"Shard {name} is draining; {left} jobs run there."

    def _wait_idle(self, name: str, timeout_s: int) -> int:
        deadline, reported = time.monotonic() + timeout_s, -1
        while (left := _running(name)) and time.monotonic() < deadline:
            if left != reported:
                self.stderr.write(f"{left} jobs run on {name} …")
                reported = left
            time.sleep(_POLL_EVERY_S)
        if left:
            raise CommandError(f"{left} jobs still run on {name} after {timeout_s} s; it stays draining.", returncode=1)
        return left

    def _resume(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        suspensions.resume(options["shard"], by=options["by"])
        wakeup.request_round()
        return {"shard": options["shard"], "state": "ready"}, f"Shard {options['shard']} takes jobs again."

    def _pause(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        where = {"pool": options["pool"], "shard_class": options["shard_class"]}
        suspensions.pause(**where, by=options["by"], reason=options["reason"])
        group = options["pool"] or options["shard_class"]
        return {**where, "state": "paused"}, f"No more jobs are sent to {group}; running jobs continue."

    def _unpause(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        where = {"pool": options["pool"], "shard_class": options["shard_class"]}
        suspensions.unpause(**where, by=options["by"])
        wakeup.request_round()
        return {**where, "state": "open"}, f"{options['pool'] or options['shard_class']} takes jobs again."

    def _requeue(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        done = requeue(options["job"], by=options["by"])
        invalidated = f"; attempt {done.invalidated} is invalidated" if done.invalidated else ""
        return vars(done), f"{done.job_id} was {done.was} and is queued again{invalidated}."


def _running(shard: str) -> int:
    return Attempt.objects.filter(shard__name=shard, state=AttemptState.RUNNING).count()


def _description(found: dict[str, Any]) -> list[str]:
    phase = f", {found['phase']}" if found["phase"] else ""
    lines = [f"{found['id']} of {found['tenant']}: {found['status']}{phase}"]
    if waiting := found["waiting"]:
        wait_s = waiting["estimated_wait_s"]
        lines.append(f"  waits ({waiting['code']}): {waiting['reason']}")
        estimate = "unknown" if wait_s is None else f"about {wait_s} s"
        lines.append(f"  waited {found['waited_s']} s so far; remaining wait: {estimate}")
    lines += [f"  {name.replace('_', ' ')}: {found[name]}" for name in _FACTS if found[name]]
    if found["error"]:
        lines.append(f"  error {found['error']['code']}: {found['error']['message']}")
    for attempt in found["attempts"]:
        lease = f", lease {attempt['lease_left_s']} s" if attempt["lease_left_s"] is not None else ""
        where = attempt["shard"] or attempt["queue"]
        ended = attempt["outcome"] or attempt["state"]
        lines.append(
            f"  attempt {attempt['number']} on {where}: {ended}, sent {attempt['sent_at']}{lease} {attempt['error']}"
        )
    return [line.rstrip() for line in lines]


_FACTS = ("capabilities", "concurrency_key", "not_before", "queue_deadline", "cancel_requested_at")


def _table(found: dict[str, Any]) -> list[str]:
    lines = ["class  shards healthy/all  slots  running  free  messages"]
    for row in found["classes"]:
        depth = "?" if row["messages"] is None else row["messages"]
        lines.append(
            f"{row['class']}  {row['healthy']}/{row['shards']}  {row['slots']}  {row['running']}  "
            f"{row['free']}  {depth}"
        )
        lines += [f"  {name}: {why}" for name, why in row["unhealthy"].items()]
    lines.append("waiting  state  jobs  oldest")
    lines += [f"{row['capabilities']}  {row['state']}  {row['jobs']}  {row['oldest_s']} s" for row in found["waiting"]]
    return lines
