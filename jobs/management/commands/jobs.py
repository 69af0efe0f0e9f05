"""``manage.py jobs``: what operators ask of jobs and queues, and do to them."""

from __future__ import annotations

import getpass
import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import broker
from jobs.dispatch.queries import explain as overview
from jobs.lifecycle.requeue import requeue
from jobs.models.job import Attempt
from jobs.models.states import AttemptState
from myctobot.errors import InvalidRequest, MyctobotError
from shards.lifecycle.states import suspensions as closing

_LOOK_EVERY_S = 1.0


class Command(BaseCommand):
    help = "Ask why a job waits and how queues stand; drain and resume shards, pause pools and classes, requeue jobs."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        self._verb(verbs, "why", "where a job is, and why").add_argument("job", metavar="JOB")
        self._verb(verbs, "queues", "how classes of shards and waiting jobs stand")
        drain = self._verb(verbs, "drain", "let a shard finish what it runs, and give it nothing more")
        drain.add_argument("shard", metavar="SHARD")
        drain.add_argument("--reason", required=True, help="for whoever asks why jobs wait")
        drain.add_argument("--wait", action="store_true", help="until nothing runs there any more")
        drain.add_argument("--timeout", type=int, default=3600, metavar="S", help="of --wait, seconds (3600)")
        self._verb(verbs, "resume", "let a drained shard take jobs again").add_argument("shard", metavar="SHARD")
        pause = self._place(self._verb(verbs, "pause", "send nothing more to a pool's or a class's shards"))
        pause.add_argument("--reason", required=True, help="for whoever asks why jobs wait")
        self._place(self._verb(verbs, "unpause", "undo a pause"))
        self._verb(verbs, "requeue", "burn a job's attempt and put it back into the line").add_argument(
            "job", metavar="JOB"
        )

    @staticmethod
    def _verb(verbs: Any, name: str, what: str) -> CommandParser:
        parser: CommandParser = verbs.add_parser(name, help=what, description=what)
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
        parser.add_argument("--by", default="", metavar="NAME", help="who does it (the user of this shell)")
        return parser

    @staticmethod
    def _place(parser: CommandParser) -> CommandParser:
        places = parser.add_mutually_exclusive_group(required=True)
        places.add_argument("--pool", metavar="NAME")
        places.add_argument("--class", dest="shard_class", metavar="CLASS", help="such as filesystem+git")
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        options["by"] = options["by"] or f"{getpass.getuser()} (manage.py)"
        try:
            answer, text = getattr(self, f"_{options['verb']}")(options)
        except InvalidRequest as error:
            said = " ".join(sentence for sentences in error.fields.values() for sentence in sentences)
            raise CommandError(said or error.message, returncode=2) from error
        except MyctobotError as error:
            raise CommandError(error.message, returncode=2) from error
        self.stdout.write(json.dumps(answer) if options["json"] else text)

    def _why(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        found = overview.why(options["job"])
        return found, "\n".join(_story(found))

    def _queues(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        found = overview.queues()
        return found, "\n".join(_table(found))

    def _drain(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        name = options["shard"]
        closing.drain(name, by=options["by"], reason=options["reason"])
        broker.request_round()
        left = self._wait_idle(name, options["timeout"]) if options["wait"] else _running(name)
        return {
            "shard": name,
            "state": "draining",
            "running": left,
        }, f"Shard {name} is draining; {left} jobs run there."

    def _wait_idle(self, name: str, timeout_s: int) -> int:
        deadline, told = time.monotonic() + timeout_s, -1
        while (left := _running(name)) and time.monotonic() < deadline:
            if left != told:
                self.stderr.write(f"{left} jobs run on {name} …")
                told = left
            time.sleep(_LOOK_EVERY_S)
        if left:
            raise CommandError(f"{left} jobs still run on {name} after {timeout_s} s; it stays draining.", returncode=1)
        return left

    def _resume(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        closing.resume(options["shard"], by=options["by"])
        broker.request_round()
        return {"shard": options["shard"], "state": "ready"}, f"Shard {options['shard']} takes jobs again."

    def _pause(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        where = {"pool": options["pool"], "shard_class": options["shard_class"]}
        closing.pause(**where, by=options["by"], reason=options["reason"])
        place = options["pool"] or options["shard_class"]
        return {**where, "state": "paused"}, f"Nothing more is sent to {place}; what runs goes on."

    def _unpause(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        where = {"pool": options["pool"], "shard_class": options["shard_class"]}
        closing.unpause(**where, by=options["by"])
        broker.request_round()
        return {**where, "state": "open"}, f"{options['pool'] or options['shard_class']} takes jobs again."

    def _requeue(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        done = requeue(options["job"], by=options["by"])
        burnt = f"; attempt {done.burnt} counts no longer" if done.burnt else ""
        return vars(done), f"{done.job_id} was {done.was} and is back in the line{burnt}."


def _running(shard: str) -> int:
    return Attempt.objects.filter(shard__name=shard, state=AttemptState.RUNNING).count()


def _story(found: dict[str, Any]) -> list[str]:
    phase = f", {found['phase']}" if found["phase"] else ""
    lines = [f"{found['id']} of {found['tenant']}: {found['status']}{phase}"]
    if waiting := found["waiting"]:
        wait_s = waiting["estimated_wait_s"]
        lines.append(f"  waits ({waiting['code']}): {waiting['reason']}")
        lines.append(
            f"  for {found['waited_s']} s so far, {'nobody can say' if wait_s is None else f'about {wait_s} s'} still"
        )
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
    lines = ["class  shards well/all  slots  running  free  messages"]
    for row in found["classes"]:
        depth = "?" if row["messages"] is None else row["messages"]
        lines.append(
            f"{row['class']}  {row['well']}/{row['shards']}  {row['slots']}  {row['running']}  {row['free']}  {depth}"
        )
        lines += [f"  {name}: {why}" for name, why in row["not_well"].items()]
    lines.append("waiting  state  jobs  oldest")
    lines += [f"{row['capabilities']}  {row['state']}  {row['jobs']}  {row['oldest_s']} s" for row in found["waiting"]]
    return lines
