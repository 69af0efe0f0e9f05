"""Random events in any order: limits hold, busy shards stay, and an ephemeral container runs one job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from jobs.capacity import pool_load
from jobs.capacity.pool_load import use_spares
from jobs.capacity.recycling import recycle_used
from jobs.dispatch.round import dispatch_round
from jobs.lifecycle.cancel import cancel
from jobs.lifecycle.transitions import invalidate_attempt
from jobs.models import Attempt, Job
from myctobot.errors import MyctobotError
from shards.autoscaling.pool_state import BY, members_of
from shards.lifecycle import suspensions
from shards.models import Shard
from shards.operations.executor import carry_out
from shards.operations.models import Operation
from shards.operations.requests import request
from tests.factories.control_plane import Runner, make_job, make_tenant
from tests.factories.pools import RULES, FullProvider, PoolWorld, clock_timestamp, running_on

pytestmark = pytest.mark.django_db

MIN_SHARDS, MAX_SHARDS = 1, 3


class Chaos(PoolWorld):
    """Pool with random events, whose numbers select their targets."""

    def __init__(self, maker: FullProvider, mode: str, spares: int) -> None:
        limits = {"min_shards": MIN_SHARDS, "max_shards": MAX_SHARDS, "max_shards_per_type": MAX_SHARDS}
        super().__init__(maker, make_tenant(), mode=mode, limits=limits, warm_spares=spares)
        self.runners: list[Runner] = []
        # This counts accepted claims by the key of the container.
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
        """Claim a job by a message that no round sent, on a free or a busy shard."""
        shards = self.shards()
        if shards:
            facts = {"task": {}, "capabilities": ["git"], "timeout_s": 600, "max_turns": 1}
            job = Job.objects.create(tenant=self.tenant, attempt_number=1, hold="sent", **facts)
            queue, name = shards[0].queues[0], shards[0].shard_class
            Attempt.objects.create(job=job, number=1, queue=queue, shard_class=name)

    def finish(self, number: int) -> None:
        if self.runners:
            self.runners.pop(number % len(self.runners)).finish()

    def lose(self, number: int) -> None:
        running = list(Attempt.objects.filter(state="running").order_by("pk"))
        if running:
            invalidate_attempt(running[number % len(running)], "lost", code="lost", message="m")

    def cancel(self, number: int) -> None:
        if self.runners:
            cancel(self.tenant, self.runners[number % len(self.runners)].job.public_id)

    def scale(self, number: int) -> None:
        busy = {shard.name for shard in self.shards() if running_on(shard)}
        found = self.autoscale()
        assert not busy & {*found.released, *found.removed}
        if found.released:
            assert len([member for member in members_of(self.pool) if not member.is_suspended]) >= MIN_SHARDS

    def operate_one(self, number: int) -> None:
        operation = Operation.objects.filter(state="queued").order_by("pk").first()
        # One in four operations fails.
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
        self._on_one_shard(number, lambda shard: suspensions.drain(shard.name, by="ada", reason="why not"))

    def release_a_busy_one(self, number: int) -> None:
        """Drain a busy shard as if a claim had come just before autoscaling drained it."""
        self._on_one_shard(number, lambda shard: suspensions.drain(shard.name, by=BY, reason="idle a moment ago"))

    def resume(self, number: int) -> None:
        self._on_one_shard(number, lambda shard: suspensions.resume(shard.name, by="ada"))

    def request_recycle(self, number: int) -> None:
        # Skip busy shards. A real worker would report its runner, and the request would be refused.
        self._on_one_shard(number, lambda shard: running_on(shard) or request(shard, "recycle", by="ada"))

    def _on_one_shard(self, number: int, action: Callable[[Shard], object]) -> None:
        shards = self.shards()
        if shards:
            with suppress(MyctobotError):
                action(shards[number % len(shards)])

    def check(self) -> None:
        """Assert the invariants."""
        room = [member for member in members_of(self.pool) if member.counts]
        assert len(room) <= MAX_SHARDS
        assert len(self.maker.list()) <= MAX_SHARDS
        made = {found.ref for found in self.maker.list()}
        for shard in Shard.objects.filter(attempts__state="running").distinct():
            assert shard.provider_ref in made, shard.state
            assert not shard.operations.filter(kind__in=["destroy", "recycle"], state="queued").exists()
        if self.pool.mode == "ephemeral":
            assert max(self.claims.values(), default=0) <= 1


EVENTS = (
    "submit", "submit", "message", "message", "release_a_busy_one",
    "dispatch", "claim", "claim", "finish", "finish", "lose", "cancel", "scale", "scale", "scale",
    "operate_one", "operate_one", "operate_one", "recycle", "spare", "drain", "resume", "request_recycle",
)  # fmt: skip
Happens = list[tuple[str, int]]
# These events run two jobs on two shards, and repeat the claim of one job.
BUSY: Happens = [
    ("scale", 0), ("operate_one", 1), ("submit", 0), ("submit", 0), ("dispatch", 0), ("claim", 0), ("scale", 0),
    ("operate_one", 1), ("dispatch", 0), ("claim", 0), ("claim", 1), ("scale", 0), ("finish", 0),
    ("message", 0), ("claim", 0), ("claim", 1), ("recycle", 0),
    ("claim", 0), ("message", 0), ("claim", 0), ("claim", 1), ("release_a_busy_one", 0),
    ("scale", 0), ("scale", 0), ("operate_one", 1), ("operate_one", 1), ("submit", 0), ("claim", 0),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["persistent", "ephemeral"])
@given(
    spares=st.integers(0, 1),
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 11)), min_size=15, max_size=45),
)
@example(spares=1, events=BUSY)
@example(spares=0, events=BUSY)
# Without shrinking, because that takes minutes and the events are readable as they are.
@settings(
    max_examples=12, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_limits_hold_and_a_busy_shard_stays(
    maker: FullProvider, monkeypatch: pytest.MonkeyPatch, mode: str, spares: int, events: Happens
) -> None:
    monkeypatch.setattr(pool_load, "database_now", clock_timestamp)
    with transaction.atomic():
        chaos = Chaos(maker, mode, spares)
        for found in maker.list():
            maker.forget(found.ref)
        maker.is_full = False
        for event, number in events:
            getattr(chaos, event)(number)
            chaos.check()
        transaction.set_rollback(True)


def test_the_rules_allow_every_event() -> None:
    assert {part["cooldown"] for name, part in RULES.items() if name != "limits"} == {"0s"}
