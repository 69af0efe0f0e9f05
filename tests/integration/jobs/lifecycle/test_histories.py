"""Invariants of jobs, attempts and leases in random histories.

Hypothesis generates submits, rounds, claims of current and old messages, events and ends of current and fenced runners,
silence, cancels and drains. The invariants hold after each step. When everything is healthy again, every job ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobs.attempts.claim import claim_attempt
from jobs.attempts.fencing import SecretlessAttempts
from jobs.attempts.finish import finish_attempt
from jobs.attempts.ingest import append_events
from jobs.dispatch.round import dispatch_round
from jobs.errors import Fenced, JobFinished, OutOfOrder
from jobs.events.reader import read_events
from jobs.lifecycle.cancel import cancel
from jobs.lifecycle.reaper import recover
from jobs.lifecycle.requeue import requeue
from jobs.models import Attempt, EventBatch, Job
from jobs.models.states import ALLOWED, LIVE_ATTEMPTS, Hold
from myctobot.contract.jobs import TERMINAL, JobStatus
from myctobot.contract.limits import CLAIM_DEADLINE_S, LEASE_S, LOST_AFTER_S
from myctobot.contract.runner import EventsRequest, FinishRequest
from myctobot.tenants.models import Tenant
from shards.models import Shard, ShardState
from tests.factories.control_plane import age, event, make_job, make_shard, make_tenant

pytestmark = pytest.mark.django_db

PROOF: dict[str, Any] = {"processes_killed": 1, "processes_left": 0, "checked_at": "now"}
FAILURES = ("disk_full", True), ("push_denied", False), ("agent_failed", False)
OUTCOMES = "completed", "failed", "cancelled", "unproven"
ANY = st.integers(0, 10_000)


@dataclass
class RunnerModel:
    """One who claimed an attempt and believes that it is its own."""

    shard: Shard
    job_id: str
    attempt: int
    token: str


class Rollback(Exception):
    """Ends an example's transaction."""


def whole_example() -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
            raise Rollback
    except Rollback:
        return


class JobsInAnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.example = whole_example()
        next(self.example)
        self.tenants = [make_tenant("acme"), make_tenant("other")]
        Tenant.objects.filter(slug="acme").update(max_running_jobs=2)
        self.shards = [make_shard("one", slots=2)[0], make_shard("two", slots=1)[0]]
        self.messages: list[tuple[str, int]] = []
        self.runners: list[RunnerModel] = []
        self.seen: dict[int, str] = {}
        self.numbers: dict[int, int] = {}
        self.tokens = 0
        self.known = SecretlessAttempts()

    def teardown(self) -> None:
        try:
            self.heal()
        finally:
            for _ in self.example:
                pass

    # --- What may happen.

    @rule(whose=ANY, key=st.sampled_from(["", "", "deploy"]), on=st.sampled_from(["infrastructure", "agent"]))
    def submit(self, whose: int, key: str, on: str) -> None:
        if Job.objects.count() < 12:
            tenant = self.tenants[whose % 2]
            make_job(tenant, "git", concurrency_key=key, retry_on=[on], queue_timeout_s=3600)

    @rule()
    def round(self) -> None:
        dispatch_round()
        for attempt in Attempt.objects.filter(state="sent").select_related("job"):
            self.messages.append((attempt.job.public_id, attempt.number))

    @precondition(lambda self: self.messages)
    @rule(which=ANY, shard=ANY)
    def deliver(self, which: int, shard: int) -> None:
        """Any message that ever was, to any shard: late, twice, or to the wrong one."""
        job_id, number = self.messages[which % len(self.messages)]
        self.take(self.shards[shard % 2], job_id, number)

    def take(self, shard: Shard, job_id: str, number: int) -> None:
        self.tokens += 1
        runner = RunnerModel(shard, job_id, number, f"{self.tokens:040}")
        try:
            claim_attempt(shard.key_hash or "", job_id, {"attempt": number, "claim_token": runner.token}, self.known)
        except Fenced:
            return
        self.runners.append(runner)

    @precondition(lambda self: self.runners)
    @rule(which=ANY, count=st.integers(0, 3), shift=st.sampled_from([0, 0, 0, -1, 2]))
    def post(self, which: int, count: int, shift: int) -> None:
        """Events of any runner that ever was, as they follow, once more, or with a gap."""
        runner = self.runners[which % len(self.runners)]
        first = max(1, Job.objects.get(public_id=runner.job_id).next_seq + shift)
        events = [event(first + index, f"{runner.attempt}") for index in range(count)]
        request = EventsRequest(attempt=runner.attempt, first_seq=first, events=events)  # type: ignore[typeddict-item]  # as on the wire
        self.call(
            runner, lambda: append_events(runner.shard.key_hash or "", runner.job_id, runner.token, request, self.known)
        )

    @precondition(lambda self: self.runners)
    @rule(
        which=ANY,
        how=st.sampled_from(["completed", "failed", "cancelled", "unproven"]),
        failure=st.sampled_from(FAILURES),
    )
    def end(self, which: int, how: str, failure: tuple[str, bool]) -> None:
        self.report(self.runners[which % len(self.runners)], how, failure)

    def report(self, runner: RunnerModel, how: str, failure: tuple[str, bool] = FAILURES[1]) -> None:
        job = Job.objects.get(public_id=runner.job_id)
        error = {"code": failure[0], "message": "It failed.", "retryable": failure[1]} if how == "failed" else None
        request = FinishRequest(
            attempt=runner.attempt,
            outcome="cancelled" if how == "unproven" else how,
            final_seq=job.next_seq - 1,
            result={},
            error=error,  # type: ignore[typeddict-item]  # as on the wire
            proof=PROOF if how == "cancelled" else None,  # type: ignore[typeddict-item]  # as on the wire
        )
        caller = (runner.shard.key_hash or "", runner.job_id, runner.token)
        self.call(runner, lambda: finish_attempt(*caller, request, self.known))

    def call(self, runner: RunnerModel, do: Any) -> None:
        """Have a runner call; one whose attempt is not the present one must change nothing."""
        job = Job.objects.get(public_id=runner.job_id)
        attempt = Attempt.objects.get(job=job, number=runner.attempt)
        present = attempt.state == "running"
        before = (job.status, job.next_seq, job.attempt_number, job.hold)
        try:
            do()
        except Fenced:
            assert not present, f"the present attempt of {job} was refused"
        except OutOfOrder:
            assert present, f"a burnt attempt of {job} got as far as its events"
        job.refresh_from_db()
        if not present:
            assert before == (job.status, job.next_seq, job.attempt_number, job.hold), "a burnt attempt changed its job"

    @precondition(lambda self: self.runners)
    @rule(which=ANY)
    def fall_silent(self, which: int) -> None:
        runner = self.runners[which % len(self.runners)]
        attempt = Attempt.objects.get(job__public_id=runner.job_id, number=runner.attempt)
        age(attempt, "lease_until", LOST_AFTER_S - LEASE_S + 1)
        recover()

    @rule()
    def lose_messages(self) -> None:
        for attempt in Attempt.objects.filter(state="sent"):
            age(attempt, "sent_at", CLAIM_DEADLINE_S + 1)
        recover()

    @precondition(lambda self: Job.objects.exists())
    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        job = self.any_job(which)
        try:
            cancel(job.tenant, job.public_id)
        except JobFinished:
            assert job.status in (JobStatus.COMPLETED, JobStatus.FAILED)

    @precondition(lambda self: Job.objects.exists())
    @rule(which=ANY)
    def requeue(self, which: int) -> None:
        job = self.any_job(which)
        try:
            requeue(job.public_id, by="anna")
        except JobFinished:
            assert job.status in TERMINAL or job.cancel_requested_at is not None

    def any_job(self, which: int) -> Job:
        jobs = list(Job.objects.order_by("pk"))
        return jobs[which % len(jobs)]

    @rule()
    def time_passes(self) -> None:
        Job.objects.filter(hold=Hold.DELAYED).update(ready_at=Now() - timedelta(seconds=1))

    @precondition(lambda self: Job.objects.filter(status="queued").exists())
    @rule(which=ANY)
    def wait_too_long(self, which: int) -> None:
        jobs = list(Job.objects.filter(status="queued").order_by("pk"))
        Job.objects.filter(pk=jobs[which % len(jobs)].pk).update(queue_deadline=Now() - timedelta(seconds=1))
        recover()

    @rule(which=ANY, state=st.sampled_from([ShardState.READY, ShardState.DRAINING]))
    def drain(self, which: int, state: ShardState) -> None:
        Shard.objects.filter(pk=self.shards[which % 2].pk).update(state=state)

    @rule(which=ANY, on=st.booleans())
    def switch_tenant(self, which: int, on: bool) -> None:
        Tenant.objects.filter(pk=self.tenants[which % 2].pk).update(is_active=on)

    # --- What must hold.

    @invariant()
    def states_move_as_the_table_says(self) -> None:
        for job in Job.objects.all():
            before = self.seen.get(job.pk, JobStatus.QUEUED)
            direct = job.status == before or job.status in ALLOWED[JobStatus(before)]
            # One step of the machine may be two of a job: taken and lost, say.
            through = any(job.status in ALLOWED[middle] for middle in ALLOWED[JobStatus(before)])
            assert direct or through, f"{job}: {before} became {job.status}"
            assert before not in TERMINAL or job.status == before, f"{job} ended twice"
            self.seen[job.pk] = job.status

    @invariant()
    def nothing_is_lost_and_nothing_runs_twice(self) -> None:
        for job in Job.objects.prefetch_related("attempts"):
            live = [attempt for attempt in job.attempts.all() if attempt.state in LIVE_ATTEMPTS]
            assert len(live) <= 1
            states = [attempt.state for attempt in live]
            if job.status == JobStatus.RUNNING:
                assert states == ["running"]
            elif job.status == JobStatus.QUEUED:
                assert states == (["sent"] if job.hold == Hold.DISPATCHED else [])
                assert job.cancel_requested_at is None, "no round sends a job that is to be cancelled"
            else:
                assert (states, job.encrypted_secrets, job.hold) == ([], None, "")
            numbers = [attempt.number for attempt in job.attempts.all()]
            assert numbers == list(range(1, job.attempt_number + 1))
            assert job.attempt_number >= self.numbers.get(job.pk, 0)
            self.numbers[job.pk] = job.attempt_number

    @invariant()
    def no_slot_is_taken_twice(self) -> None:
        for shard in self.shards:
            assert shard.attempts.filter(state="running").count() <= shard.max_concurrent_jobs
        assert Attempt.objects.filter(state__in=LIVE_ATTEMPTS).count() <= 3

    @invariant()
    def limits_and_keys_are_kept(self) -> None:
        held = Attempt.objects.filter(state__in=LIVE_ATTEMPTS)
        assert held.filter(job__tenant__slug="acme").count() <= 2
        for tenant in self.tenants:
            assert held.filter(job__tenant=tenant, job__concurrency_key="deploy").count() <= 1

    @invariant()
    def events_have_no_gap(self) -> None:
        for job in Job.objects.all():
            assert [one["seq"] for one in read_events(job.pk, 0, 1000)] == list(range(1, job.next_seq))
            for batch in EventBatch.objects.filter(job=job):
                said = {one["data"]["text"] for one in read_events(job.pk, batch.first_seq - 1, 1)}
                assert said == {str(batch.attempt_number)}, "an event of another attempt than says its batch"

    # --- And how it ends.

    def heal(self) -> None:
        """Repair everything, and check that every job ends."""
        Tenant.objects.update(is_active=True)
        Shard.objects.update(state=ShardState.READY, last_heartbeat_at=Now())
        unfinished = Job.objects.exclude(status__in=TERMINAL)
        for _ in range(8 * Job.objects.count() + 8):
            # Nothing starts a job again once it has ended.
            if not unfinished.exists():
                break
            for attempt in Attempt.objects.filter(state="running").select_related("job", "shard"):
                for runner in self.runners:
                    if (runner.job_id, runner.attempt) == (attempt.job.public_id, attempt.number):
                        self.report(runner, "cancelled" if attempt.job.cancel_requested_at else "completed")
            self.time_passes()
            recover()
            self.round()
            for sent in list(Attempt.objects.filter(state="sent").select_related("job")):
                for shard in self.shards:
                    if sent.queue in shard.queues:
                        self.take(shard, sent.job.public_id, sent.number)
        left = [(job.public_id, job.status, job.hold) for job in unfinished.all()]
        assert not left, f"these jobs never end: {left}"
        self.nothing_is_lost_and_nothing_runs_twice()


def run_histories(examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    wanted = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, print_blob=True
    )
    run_state_machine_as_test(JobsInAnyOrder, settings=wanted)


@pytest.mark.timeout(600)
def test_no_job_is_lost_and_none_runs_twice_in_some_histories() -> None:
    run_histories(10, 40)


# Each part makes up other histories, so that a week of them is many.
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(7))
def test_no_job_is_lost_and_none_runs_twice_in_many_histories(part: int) -> None:
    run_histories(40, 60)
