"""Whatever happens in whatever order: limits hold, a busy shard stays, and an ephemeral container has one job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from jobs.capacity import pool_load as autoscaling
from jobs.capacity.pool_load import use_spares
from jobs.capacity.recycling import recycle_used
from jobs.dispatch.round import burn, dispatch_round
from jobs.lifecycle.submit import cancel
from jobs.models.job import Attempt, Job
from myctobot.errors import MyctobotError
from shards.autoscaling.pool_state import BY, members_of
from shards.lifecycle.states import suspensions as closing
from shards.models.shard import Shard
from shards.operations.executor import carry_out
from shards.operations.models import Operation
from shards.operations.requests import request

from .pools import RULES, FullProvider, PoolWorld, running_on, the_time
from .support import Runner, make_job, make_tenant

pytestmark = pytest.mark.django_db

LEAST, MOST = 1, 3


class Chaos(PoolWorld):
    """A pool to which anything may happen; the number says to which of those it may happen to."""

    def __init__(self, maker: FullProvider, mode: str, spares: int) -> None:
        limits = {"min_shards": LEAST, "max_shards": MOST, "max_shards_per_type": MOST}
        super().__init__(maker, make_tenant(), mode=mode, limits=limits, warm_spares=spares)
        self.runners: list[Runner] = []
        # Claims that were honoured, by the key of the container that made them.
        self.claims: Counter[str] = Counter()

    def submit(self, number: int) -> None:
        with suppress(MyctobotError):
            make_job(self.tenant)

    def dispatch(self, number: int) -> None:
        dispatch_round()

    def claim(self, number: int) -> None:
        sent = list(Attempt.objects.filter(state="sent").select_related("job").order_by("pk"))
        keyed = [shard for shard in self.shards() if shard.provider_ref in self.maker.configs]
        if sent and keyed:
            key = self.key_of(keyed[number % len(keyed)])
            attempt = sent[number % len(sent)]
            runner = Runner(key, attempt.job, attempt.number)
            if runner.claim().status_code == 200:
                self.claims[key] += 1
                self.runners.append(runner)

    def message(self, number: int) -> None:
        """A message that no round sent, whatever shards are busy."""
        there = self.shards()
        if there:
            facts = {"task": {}, "capabilities": ["git"], "timeout_s": 600, "max_turns": 1}
            job = Job.objects.create(tenant=self.tenant, attempt_number=1, hold="sent", **facts)
            queue, name = there[0].queues[0], there[0].shard_class
            Attempt.objects.create(job=job, number=1, queue=queue, shard_class=name)

    def finish(self, number: int) -> None:
        if self.runners:
            self.runners.pop(number % len(self.runners)).finish()

    def lose(self, number: int) -> None:
        running = list(Attempt.objects.filter(state="running").order_by("pk"))
        if running:
            burn(running[number % len(running)], "lost", code="lost", message="m")

    def cancel(self, number: int) -> None:
        if self.runners:
            cancel(self.tenant, self.runners[number % len(self.runners)].job.public_id)

    def scale(self, number: int) -> None:
        busy = {shard.name for shard in self.shards() if running_on(shard)}
        found = self.beat()
        assert not busy & {*found.let_go, *found.removed}
        if found.let_go:
            assert len([member for member in members_of(self.pool) if not member.is_closed]) >= LEAST

    def operate_one(self, number: int) -> None:
        operation = Operation.objects.filter(state="queued").order_by("pk").first()
        # One in four fails, where there is anything that can.
        self.maker.is_full = number % 4 == 0
        if operation is not None:
            if operation.kind == "destroy":
                assert not running_on(operation.shard)
            carry_out(operation.pk)

    def recycle(self, number: int) -> None:
        recycle_used()

    def spare(self, number: int) -> None:
        use_spares()

    def drain(self, number: int) -> None:
        self._to_some(number, lambda shard: closing.drain(shard.name, by="ada", reason="why not"))

    def let_go_of_a_busy_one(self, number: int) -> None:
        """As if a claim had come just before a drain of autoscaling's own."""
        self._to_some(number, lambda shard: closing.drain(shard.name, by=BY, reason="idle a moment ago"))

    def resume(self, number: int) -> None:
        self._to_some(number, lambda shard: closing.resume(shard.name, by="ada"))

    def ask_to_recycle(self, number: int) -> None:
        # Of a busy one it is refused because its worker reports a runner, and here none does.
        self._to_some(number, lambda shard: running_on(shard) or request(shard, "recycle", by="ada"))

    def _to_some(self, number: int, does: Callable[[Shard], object]) -> None:
        there = self.shards()
        if there:
            with suppress(MyctobotError):
                does(there[number % len(there)])

    def check(self) -> None:
        """What must never be otherwise."""
        room = [member for member in members_of(self.pool) if member.counts]
        assert len(room) <= MOST
        assert len(self.maker.list()) <= MOST
        made = {found.ref for found in self.maker.list()}
        for shard in Shard.objects.filter(attempts__state="running").distinct():
            assert shard.provider_ref in made, shard.state
            assert not shard.operations.filter(kind__in=["destroy", "recycle"], state="queued").exists()
        if self.pool.mode == "ephemeral":
            assert max(self.claims.values(), default=0) <= 1


EVENTS = (
    "submit", "submit", "message", "message", "let_go_of_a_busy_one",
    "dispatch", "claim", "claim", "finish", "finish", "lose", "cancel", "scale", "scale", "scale",
    "operate_one", "operate_one", "operate_one", "recycle", "spare", "drain", "resume", "ask_to_recycle",
)  # fmt: skip
Happens = list[tuple[str, int]]
# Two jobs on two shards, and one of them more than once.
BUSY: Happens = [
    ("scale", 0), ("operate_one", 1), ("submit", 0), ("submit", 0), ("dispatch", 0), ("claim", 0), ("scale", 0),
    ("operate_one", 1), ("dispatch", 0), ("claim", 0), ("claim", 1), ("scale", 0), ("finish", 0),
    ("message", 0), ("claim", 0), ("claim", 1), ("recycle", 0),
    ("claim", 0), ("message", 0), ("claim", 0), ("claim", 1), ("let_go_of_a_busy_one", 0),
    ("scale", 0), ("scale", 0), ("operate_one", 1), ("operate_one", 1), ("submit", 0), ("claim", 0),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["persistent", "ephemeral"])
@given(
    spares=st.integers(0, 1),
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 11)), min_size=15, max_size=45),
)
@example(spares=1, events=BUSY)
@example(spares=0, events=BUSY)
# To make a failure smaller takes minutes, and the events of one are read well enough as they are.
@settings(
    max_examples=12, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_limits_hold_and_a_busy_shard_stays(
    maker: FullProvider, monkeypatch: pytest.MonkeyPatch, mode: str, spares: int, events: Happens
) -> None:
    monkeypatch.setattr(autoscaling, "database_now", the_time)
    with transaction.atomic():
        chaos = Chaos(maker, mode, spares)
        for found in maker.list():
            maker.forget(found.ref)
        maker.is_full = False
        for event, number in events:
            getattr(chaos, event)(number)
            chaos.check()
        transaction.set_rollback(True)


def test_the_rules_are_such_that_everything_may_happen() -> None:
    assert {part["cooldown"] for name, part in RULES.items() if name != "limits"} == {"0s"}
