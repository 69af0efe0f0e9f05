"""One look of autoscaling at one pool: read its rules, decide, write down why, and have it carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog
from django.db import connection, transaction

from myctobot.errors import InvalidRequest, MyctobotError
from shards.autoscaling import decision_log as records
from shards.autoscaling import pool_state as members
from shards.autoscaling.actuator import IsBusy, build, let_go, problem_of, remove_drained
from shards.autoscaling.build_backoff import Leave, leave_to_build
from shards.autoscaling.decisions import Action, Decision, PoolView, decide
from shards.autoscaling.observation import Load, Member, seen
from shards.autoscaling.rules import RuleSet, read_rules
from shards.autoscaling.warm_spares import activate
from shards.models.shard import Pool, ShardType
from shards.monitoring.alerts import alert

log = structlog.get_logger(__name__)

# The first key of the advisory lock that makes looks at one pool go one at a time ("scal" in ASCII).
_LOCK: Final = 0x7363616C


@dataclass(frozen=True)
class Scaled:
    """What came of a look.

    Attributes:
        decision: None when there was nothing to decide by.
        built, let_go, removed, activated: names of shards.
    """

    decision: Decision | None = None
    built: Sequence[str] = ()
    let_go: Sequence[str] = ()
    removed: Sequence[str] = ()
    activated: Sequence[str] = ()


def scale(pool: Pool, load: Load, is_busy: IsBusy, now: datetime) -> Scaled | None:
    """Look at a pool; None when somebody else does so at this moment.

    Args:
        pool: one with rules.
        load: what jobs have to do with it, as of now.
        is_busy: looked at again, under lock, before anything is removed.
        now: the database's clock.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_LOCK, pool.pk % 2**31])
        if not cursor.fetchone()[0]:
            return None
        rules = _rules(pool)
        return Scaled() if rules is None else _Look(pool, rules, load, is_busy, now).run()


def _rules(pool: Pool) -> RuleSet | None:
    try:
        return read_rules(pool.scaling_rules)
    except InvalidRequest as error:
        said = "; ".join(f"{name}: {' '.join(problems)}" for name, problems in error.fields.items())
        records.write_once(pool, "rules", "The pool's rules cannot be read.", {}, error=said)
        return None


@dataclass
class _Look:
    pool: Pool
    rules: RuleSet
    load: Load
    is_busy: IsBusy
    now: datetime
    _inputs: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Scaled:
        records.note_failures(self.pool)
        removed = [] if self.pool.scaling_dry_run else remove_drained(self.pool, self.is_busy)
        found = members.members_of(self.pool)
        decision = self._decide(found)
        self._inputs = {"measured": decision.measured, "shards": [_told(member) for member in found if member.counts]}
        if decision.action is Action.BUILD:
            return self._build(decision, removed)
        if decision.action is Action.REMOVE and decision.remove is not None:
            return self._let_go(decision, decision.remove, removed)
        if decision.held_back:
            records.write_once(self.pool, "limit", decision.reason, self._inputs)
        return Scaled(decision, removed=removed)

    def _decide(self, found: Sequence[Member]) -> Decision:
        built, let_go_at = (records.last_change(self.pool, sign) for sign in (1, -1))
        shards, waits = seen(found, self.load, self.now), self.load.waits_s
        template = self.pool.template
        shard_type = template.shard_type if template else ShardType.CUSTOM
        view = PoolView(shards, waits, built, let_go_at, members.slots_of_new(self.pool))
        return decide(self.rules, view, shard_type, self.now)

    def _build(self, decision: Decision, removed: Sequence[str]) -> Scaled:
        pool = self.pool
        leave = leave_to_build(
            members.ended_builds(pool), members.builds_under_way(pool), records.resumed_at(pool), self.now
        )
        if leave.most == 0:
            self._hold(leave)
            return Scaled(decision, removed=removed)
        count = decision.count if leave.most is None else min(leave.most, decision.count)
        if pool.scaling_dry_run:
            self._would(count, decision.reason)
            return Scaled(decision, removed=removed)
        activated = self._activate(count, decision) if self.load.waits_s else []
        return self._build_anew(decision, count - len(activated), activated, removed)

    def _would(self, change: int, reason: str, names: Sequence[str] = ()) -> None:
        """Say what would be done: once, though it comes up again and again because nothing is done."""
        last = records.decisions_of(self.pool).first()
        if last is None or (last.change, last.reason, last.shards) != (change, reason[:500], list(names)):
            records.write(self.pool, change, reason, self._inputs, names)

    def _activate(self, count: int, decision: Decision) -> list[str]:
        """What stands by is faster than what has to be built."""
        spares = (activate(self.pool, reason=decision.reason) for _ in range(count))
        return [spare.name for spare in spares if spare is not None]

    def _build_anew(self, decision: Decision, count: int, activated: Sequence[str], removed: Sequence[str]) -> Scaled:
        built: list[str] = []
        problem = ""
        for _ in range(count):
            try:
                built.append(build(self.pool, as_spare=decision.as_spares).name)
            except MyctobotError as error:
                problem = problem_of(error)
                break
        if built or activated:
            records.write(self.pool, len(built), decision.reason, self._inputs, [*activated, *built], problem)
        elif problem and records.write_once(self.pool, "build", decision.reason, self._inputs, problem):
            self._alert(f"Pool {self.pool.name} cannot grow", f"{decision.reason} But: {problem}")
        return Scaled(decision, built=built, removed=removed, activated=activated)

    def _hold(self, leave: Leave) -> None:
        kind = "paused" if leave.is_paused else "failed"
        if records.write_once(self.pool, kind, leave.reason, self._inputs, error=leave.reason) and leave.is_paused:
            how = f"manage.py autoscale resume {self.pool.name} lets it go on at once."
            self._alert(f"Pool {self.pool.name} does not grow", f"{leave.reason} {how}")

    def _alert(self, subject: str, text: str) -> None:
        alert("pool.not_scaled", subject, text, key=f"pool.not_scaled {self.pool.name}")

    def _let_go(self, decision: Decision, name: str, removed: Sequence[str]) -> Scaled:
        pool = self.pool
        if pool.scaling_dry_run:
            self._would(-1, decision.reason, [name])
            return Scaled(decision, removed=removed)
        if not let_go(name, reason=decision.reason, is_busy=self.is_busy):
            return Scaled(decision, removed=removed)
        records.write(pool, -1, decision.reason, self._inputs, [name])
        return Scaled(decision, let_go=[name], removed=removed)


def _told(member: Member) -> dict[str, Any]:
    return {"name": member.name, "state": member.state, "type": member.shard_type}
