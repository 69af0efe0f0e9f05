"""``manage.py autoscale``: check autoscaling rules, simulate them, and resume a pool after failed builds."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.capacity.arrivals import recorded_arrivals
from myctobot.errors import InvalidRequest
from shards.autoscaling import decision_log
from shards.autoscaling.expressions import MEASURES
from shards.autoscaling.rules import RuleSet, read_rules
from shards.autoscaling.simulation import World, simulate
from shards.autoscaling.simulation_report import Recorded, chart, figures, read_arrivals
from shards.models import Pool

# Larger than any valid rule set.
_MAX_BYTES = 256 * 1024
_MAX_OPTION = 100_000


class Command(BaseCommand):
    help = "Check autoscaling rules, simulate them with recorded jobs, and resume builds of a pool after failures."
    # Rule files can be checked without a database.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        check = verbs.add_parser("check", help="check a rule set", description="Check a rule set.")
        check.add_argument("file", metavar="RULES", help="JSON; see docs/autoscaling.md for the format")
        check.add_argument("--json", action="store_true", help="one JSON object with ok, and the errors by field")
        play = verbs.add_parser("simulate", help="simulate a rule set", description="Simulate a rule set.")
        play.add_argument("file", metavar="RULES", help="JSON; see docs/autoscaling.md for the format")
        play.add_argument(
            "arrivals", metavar="JOBS", nargs="?", help="CSV of jobs: at,length_s (default: recorded jobs)"
        )
        play.add_argument("--pool", metavar="NAME", help="recorded jobs of this pool (default: all)")
        play.add_argument("--days", type=_whole, default=7, metavar="N", help="recorded jobs of the last N days (7)")
        play.add_argument("--slots", type=_whole, default=1, metavar="N", help="slots of each shard (1)")
        play.add_argument("--build", type=_whole, default=60, metavar="S", help="seconds to build a shard (60)")
        play.add_argument("--json", action="store_true", help="one JSON object instead of text")
        resume = verbs.add_parser(
            "resume", help="resume builds of a pool after failures", description="Resume builds of a pool."
        )
        resume.add_argument("pool", metavar="POOL")
        resume.add_argument("--by", default="", metavar="NAME", help="who resumes it (default: the shell's user)")

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
            raise CommandError(_error_text(error)) from None
        if recorded is not None:
            self._simulate(rules, recorded, options)
        else:
            self.stdout.write(json.dumps({"ok": True, "fields": {}}) if options["json"] else _summary(rules))

    def _resume(self, name: str, by: str) -> None:
        pool = Pool.objects.filter(name=name).first()
        if pool is None:
            known = ", ".join(Pool.objects.order_by("name").values_list("name", flat=True)[:10]) or "none"
            raise CommandError(f"There is no pool '{name[:60]}'; the pools are: {known}.")
        decision_log.resume(pool, by=by)
        self.stdout.write(f"Pool {name} may build shards again.")

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
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= _MAX_OPTION or len(text) > 6:
        raise ArgumentTypeError(f"must be a whole number from 1 to {_MAX_OPTION}")
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
            raise CommandError(f"{path} has more than {_MAX_BYTES} bytes, which is too large for a rule set.")
        return json.loads(content)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is not valid JSON: {error}") from None


def _error_text(error: InvalidRequest) -> str:
    lines = [f"{name}: {problem}" for name, problems in error.fields.items() for problem in problems]
    return "\n".join(["The input is invalid.", *lines])


def _summary(rules: RuleSet) -> str:
    limits = rules.limits
    lines = [
        f"grow when    {rules.scale_up.condition.text}",
        f"             and not within {rules.scale_up.cooldown_s:g} s of the last time",
        f"shrink when  {rules.scale_down.condition.text}",
        f"             and not within {rules.scale_down.cooldown_s:g} s of any change",
        f"shards       {limits.min_shards} to {limits.max_shards}, at most {limits.max_shards_per_type} of a type",
    ]
    lines += [f"at least     {minimum.describe()}" for minimum in rules.minimums]
    if rules.wait_target_s is not None:
        lines.append(f"also grow    when 5 % of the waiting jobs wait longer than {rules.wait_target_s:g} s")
    if rules.warm_spares:
        lines.append(f"spares       {rules.warm_spares} kept idle")
    return "\n".join([*lines, "", f"Conditions may use: {', '.join(MEASURES)}."])
