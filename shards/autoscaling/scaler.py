"""Scaling pass over one pool: read its rules, decide, log the decision and carry it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog
from django.db import connection, transaction

from myctobot.errors import InvalidRequest, MyctobotError
from shards.autoscaling import decision_log, pool_state
from shards.autoscaling.actuator import IsBusy, problem_of, provision_shard, release, remove_drained
from shards.autoscaling.build_backoff import BuildAllowance, build_allowance
from shards.autoscaling.decisions import Action, Decision, PoolView, decide
from shards.autoscaling.observation import PoolLoad, PoolMember, observe_pool
from shards.autoscaling.rules import RuleSet, read_rules
from shards.autoscaling.warm_spares import activate
from shards.models import Pool, ShardType
from shards.monitoring.alerts import alert

log = structlog.get_logger(__name__)

# First key of the advisory lock that serializes passes over one pool ("scal" in ASCII).
_LOCK: Final = 0x7363616C


@dataclass(frozen=True)
class ScalingResult:
    """Result of a scaling pass.

    Attributes:
        decision: None if the rules are not valid.
        built, released, removed, activated: names of shards.
    """

    decision: Decision | None = None
    built: Sequence[str] = ()
    released: Sequence[str] = ()
    removed: Sequence[str] = ()
    activated: Sequence[str] = ()


def scale(pool: Pool, load: PoolLoad, is_busy: IsBusy, now: datetime) -> ScalingResult | None:
    """Run a scaling pass; return None if another process runs one for this pool.

    Args:
        pool: a pool with rules.
        load: its present load.
        is_busy: checked again under lock before a shard is removed.
        now: the database's clock.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_LOCK, pool.pk % 2**31])
        if not cursor.fetchone()[0]:
            return None
        rules = _rules(pool)
        return ScalingResult() if rules is None else _ScalingPass(pool, rules, load, is_busy, now).run()


def _rules(pool: Pool) -> RuleSet | None:
    try:
        return read_rules(pool.scaling_rules)
    except InvalidRequest as error:
        text = "; ".join(f"{name}: {' '.join(problems)}" for name, problems in error.fields.items())
        decision_log.write_once(pool, "rules", "The pool's rules are not valid.", {}, error=text)
        return None


@dataclass
class _ScalingPass:
    pool: Pool
    rules: RuleSet
    load: PoolLoad
    is_busy: IsBusy
    now: datetime
    _inputs: dict[str, Any] = field(default_factory=dict)

    def run(self) -> ScalingResult:
        decision_log.record_failures(self.pool)
        removed = [] if self.pool.scaling_dry_run else remove_drained(self.pool, self.is_busy)
        members = pool_state.members_of(self.pool)
        decision = self._decide(members)
        shards = [_member_facts(member) for member in members if member.counts]
        self._inputs = {"measured": decision.measured, "shards": shards}
        if decision.action is Action.BUILD:
            return self._build(decision, removed)
        if decision.action is Action.REMOVE and decision.remove is not None:
            return self._release(decision, decision.remove, removed)
        if decision.held_back:
            decision_log.write_once(self.pool, "limit", decision.reason, self._inputs)
        return ScalingResult(decision, removed=removed)

    def _decide(self, members: Sequence[PoolMember]) -> Decision:
        built, released_at = (decision_log.last_change(self.pool, sign) for sign in (1, -1))
        shards, waits = observe_pool(members, self.load, self.now), self.load.waits_s
        template = self.pool.template
        shard_type = template.shard_type if template else ShardType.CUSTOM
        view = PoolView(shards, waits, built, released_at, pool_state.slots_of_new(self.pool))
        return decide(self.rules, view, shard_type, self.now)

    def _build(self, decision: Decision, removed: Sequence[str]) -> ScalingResult:
        pool = self.pool
        allowance = build_allowance(
            pool_state.ended_builds(pool), pool_state.builds_under_way(pool), decision_log.resumed_at(pool), self.now
        )
        if allowance.maximum == 0:
            self._log_backoff(allowance)
            return ScalingResult(decision, removed=removed)
        count = decision.count if allowance.maximum is None else min(allowance.maximum, decision.count)
        if pool.scaling_dry_run:
            self._log_dry_run(count, decision.reason)
            return ScalingResult(decision, removed=removed)
        activated = self._activate(count, decision) if self.load.waits_s else []
        return self._provision(decision, count - len(activated), activated, removed)

    def _log_dry_run(self, change: int, reason: str, names: Sequence[str] = ()) -> None:
        """Log what would be done, but only once, because a dry run decides the same in each pass."""
        last = decision_log.decisions_of(self.pool).first()
        if last is None or (last.change, last.reason, last.shards) != (change, reason[:500], list(names)):
            decision_log.write(self.pool, change, reason, self._inputs, names)

    def _activate(self, count: int, decision: Decision) -> list[str]:
        """Activate warm spares first, because they take jobs sooner than new shards."""
        spares = (activate(self.pool, reason=decision.reason) for _ in range(count))
        return [spare.name for spare in spares if spare is not None]

    def _provision(
        self, decision: Decision, count: int, activated: Sequence[str], removed: Sequence[str]
    ) -> ScalingResult:
        built: list[str] = []
        problem = ""
        for _ in range(count):
            try:
                built.append(provision_shard(self.pool, as_spare=decision.as_spares).name)
            except MyctobotError as error:
                problem = problem_of(error)
                break
        if built or activated:
            decision_log.write(self.pool, len(built), decision.reason, self._inputs, [*activated, *built], problem)
        elif problem and decision_log.write_once(self.pool, "build", decision.reason, self._inputs, problem):
            self._alert(f"Pool {self.pool.name} cannot grow", f"{decision.reason} The build is not possible: {problem}")
        return ScalingResult(decision, built=built, removed=removed, activated=activated)

    def _log_backoff(self, allowance: BuildAllowance) -> None:
        kind, reason = "paused" if allowance.is_paused else "failed", allowance.reason
        if decision_log.write_once(self.pool, kind, reason, self._inputs, error=reason) and allowance.is_paused:
            remedy = f"To resume it at once, run: manage.py autoscale resume {self.pool.name}"
            self._alert(f"Pool {self.pool.name} does not grow", f"{reason} {remedy}")

    def _alert(self, subject: str, text: str) -> None:
        alert("pool.not_scaled", subject, text, key=f"pool.not_scaled {self.pool.name}")

    def _release(self, decision: Decision, name: str, removed: Sequence[str]) -> ScalingResult:
        pool = self.pool
        if pool.scaling_dry_run:
            self._log_dry_run(-1, decision.reason, [name])
            return ScalingResult(decision, removed=removed)
        if not release(name, reason=decision.reason, is_busy=self.is_busy):
            return ScalingResult(decision, removed=removed)
        decision_log.write(pool, -1, decision.reason, self._inputs, [name])
        return ScalingResult(decision, released=[name], removed=removed)


def _member_facts(member: PoolMember) -> dict[str, Any]:
    return {"name": member.name, "state": member.state, "type": member.shard_type}
