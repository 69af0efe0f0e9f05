"""``manage.py autoscale``: what autoscaling rules say, what they would have done, and going on after a pause."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.capacity.arrivals import recorded_arrivals
from myctobot.errors import InvalidRequest
from shards.autoscaling import decision_log as records
from shards.autoscaling.expressions import MEASURES
from shards.autoscaling.rules import RuleSet, read_rules
from shards.autoscaling.simulation import World, simulate
from shards.autoscaling.simulation_report import Recorded, chart, figures, read_arrivals
from shards.models.shard import Pool

# Longer than any rule set.
_MAX_BYTES = 256 * 1024
_MOST_OPTION = 100_000


class Command(BaseCommand):
    help = "Check autoscaling rules, play them against jobs that came, let a pool build again after failures."
    # What it does most it does with a file alone.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        check = verbs.add_parser("check", help="whether a rule set can be read", description="Read a rule set.")
        check.add_argument("file", metavar="RULES", help="JSON; docs/shards.md says what it holds")
        check.add_argument("--json", action="store_true", help="one JSON object: ok, and fields with what is wrong")
        play = verbs.add_parser("simulate", help="what a rule set would have done", description="Play a rule set.")
        play.add_argument("file", metavar="RULES", help="JSON; docs/shards.md says what it holds")
        play.add_argument(
            "arrivals", metavar="JOBS", nargs="?", help="CSV of jobs that came: at,length_s (those on record)"
        )
        play.add_argument("--pool", metavar="NAME", help="of those on record, the jobs that ran in this pool (all)")
        play.add_argument("--days", type=_whole, default=7, metavar="N", help="of those on record, the last N days (7)")
        play.add_argument("--slots", type=_whole, default=1, metavar="N", help="of each shard (1)")
        play.add_argument("--build", type=_whole, default=60, metavar="S", help="seconds that a new shard takes (60)")
        play.add_argument("--json", action="store_true", help="one JSON object instead of text")
        again = verbs.add_parser(
            "resume", help="let a pool build again after builds that failed", description="Build again."
        )
        again.add_argument("pool", metavar="POOL")
        again.add_argument("--by", default="", metavar="NAME", help="who does it (the user of this shell)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"] == "resume":
            self._resume(options["pool"], options["by"] or f"{getpass.getuser()} (manage.py)")
            return
        try:
            rules = read_rules(_parsed(Path(options["file"])))
            recorded = _arrivals(options) if options["verb"] == "simulate" else None
        except InvalidRequest as error:
            if options["json"]:
                self.stdout.write(json.dumps({"ok": False, "fields": error.fields}))
            raise CommandError(_problems(error)) from None
        if recorded is not None:
            self._simulate(rules, recorded, options)
        else:
            self.stdout.write(json.dumps({"ok": True, "fields": {}}) if options["json"] else _meaning(rules))

    def _resume(self, name: str, by: str) -> None:
        pool = Pool.objects.filter(name=name).first()
        if pool is None:
            known = ", ".join(Pool.objects.order_by("name").values_list("name", flat=True)[:10]) or "none"
            raise CommandError(f"There is no pool '{name[:60]}'; there are: {known}.")
        records.resume(pool, by=by)
        self.stdout.write(f"Pool {name} may build again.")

    def _simulate(self, rules: RuleSet, recorded: Recorded, options: dict[str, Any]) -> None:
        world = World(recorded.start, slots=options["slots"], build_s=options["build"])
        outcome = simulate(rules, recorded.arrivals, world)
        found = figures(outcome)
        if options["json"]:
            changes = [{"at_s": at_s, "shards": shards, "reason": reason} for at_s, shards, reason in outcome.changes]
            self.stdout.write(json.dumps({"ok": True, **found, "changes": changes}))
            return
        lines = [f"{name.replace('_', ' '):12} {value:g}" for name, value in found.items()]
        self.stdout.write("\n".join([*lines, "", chart(recorded.start, outcome.moments)]))


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= _MOST_OPTION or len(text) > 6:
        raise ArgumentTypeError(f"must be a whole number from 1 to {_MOST_OPTION}")
    return int(text)


def _arrivals(options: dict[str, Any]) -> Recorded:
    if options["arrivals"] is None:
        return recorded_arrivals(options["days"], options["pool"])
    return _recorded(Path(options["arrivals"]))


def _recorded(path: Path) -> Recorded:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return read_arrivals(lines)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from None


def _parsed(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise CommandError(f"{path} has more than {_MAX_BYTES} bytes; no rule set has so many.")
        return json.loads(content)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is no well-formed JSON: {error}") from None


def _problems(error: InvalidRequest) -> str:
    lines = [f"{name}: {problem}" for name, problems in error.fields.items() for problem in problems]
    return "\n".join(["This cannot be read.", *lines])


def _meaning(rules: RuleSet) -> str:
    limits = rules.limits
    lines = [
        f"grow when    {rules.scale_up.condition.text}",
        f"             and not within {rules.scale_up.cooldown_s:g} s of the last time",
        f"shrink when  {rules.scale_down.condition.text}",
        f"             and not within {rules.scale_down.cooldown_s:g} s of any change",
        f"shards       {limits.min_shards} to {limits.max_shards}, {limits.max_shards_per_type} of a type at most",
    ]
    lines += [f"at least     {minimum.shown()}" for minimum in rules.minimums]
    if rules.wait_target_s is not None:
        lines.append(f"grow too     when 5 % of the waiting jobs wait for longer than {rules.wait_target_s:g} s")
    if rules.warm_spares:
        lines.append(f"spares       {rules.warm_spares} idle on purpose")
    return "\n".join([*lines, "", f"Conditions may look at: {', '.join(MEASURES)}."])
