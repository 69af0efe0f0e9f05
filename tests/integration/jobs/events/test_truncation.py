"""A log that is too long loses its middle, an old one goes; a mark says so in both cases."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Sum
from django.db.models.functions import Now

from jobs.events.reader import read_events, read_page
from jobs.maintenance.retention import clean_up
from jobs.models.job import EventBatch, Job
from jobs.tasks import retention_task
from myctobot.contract.jobs import MAX_EVENT_BYTES
from myctobot.tenants.models import Tenant

from .support import Runner, age_job, error_of, fresh, make_job, running_job

pytestmark = pytest.mark.django_db
LINE = "x" * 900


@pytest.fixture
def running(tenant: Tenant, key: str) -> tuple[Job, Runner]:
    return running_job(tenant, key)


def numbers(job: Job, after: int = 0) -> list[int]:
    return [event["seq"] for event in read_events(job.pk, after, 10_000)]


def covered(job: Job, after: int = 0) -> bool:
    """Whether a reader finds every number: by its event, or by a mark that stands for it."""
    last = after
    for event in read_events(job.pk, after, 10_000):
        first = event["data"]["first_seq"] if event["kind"] == "log.dropped" else event["seq"]
        if not first <= last + 1 <= event["seq"]:
            return False
        last = event["seq"]
    return last == fresh(job).next_seq - 1


class TestBound:
    @pytest.fixture(autouse=True)
    def _small(self, settings: Any) -> None:
        settings.JOB_LOG_MAX_BYTES = 20_000

    def test_the_middle_goes_and_a_mark_says_how_much(self, running: tuple[Job, Runner]) -> None:
        job, runner = running
        for _ in range(50):
            runner.events(LINE, LINE)
        events = read_events(job.pk, 0, 1000)
        marks = [event for event in events if event["kind"] == "log.dropped"]
        assert [event["seq"] for event in events][:4] == [1, 2, 3, 4]
        assert events[-1]["seq"] == 100
        assert len(marks) == 1
        gone = marks[0]["data"]
        assert gone["reason"] == "bound"
        assert gone["events"] == marks[0]["seq"] - gone["first_seq"] + 1 == 100 - (len(events) - 1)
        assert covered(job)

    def test_what_is_stored_stays_within_the_bound(self, running: tuple[Job, Runner], settings: Any) -> None:
        job, runner = running
        for count in range(60):
            runner.events(*[LINE] * (1 + count % 4))
            stored = EventBatch.objects.filter(job=job).aggregate(total=Sum("bytes"))["total"]
            assert stored == fresh(job).log_bytes <= settings.JOB_LOG_MAX_BYTES
        assert covered(job)

    def test_bytes_add_up(self, running: tuple[Job, Runner]) -> None:
        job, runner = running
        for _ in range(60):
            runner.events(LINE)
        mark = next(event for event in read_events(job.pk, 0, 100) if event["kind"] == "log.dropped")
        lines = {batch.bytes for batch in EventBatch.objects.filter(job=job, bytes__gt=0)}
        assert len(lines) <= 3
        assert min(lines) <= mark["data"]["bytes"] / mark["data"]["events"] <= max(lines)

    @pytest.mark.parametrize("after", [0, 3, 15, 40, 77, 99])
    def test_a_reader_goes_on_from_wherever_it_was(self, running: tuple[Job, Runner], after: int) -> None:
        job, runner = running
        for _ in range(50):
            runner.events(LINE, LINE)
        assert covered(job, after)

    def test_a_batch_larger_than_the_bound_is_kept_while_it_is_the_newest(self, running: tuple[Job, Runner]) -> None:
        job, runner = running
        runner.events("before")
        runner.events(*[LINE] * 30)
        runner.events("after")
        assert numbers(job)[-1] == 32
        assert covered(job)

    def test_a_bound_that_was_lowered(self, running: tuple[Job, Runner], settings: Any) -> None:
        job, runner = running
        settings.JOB_LOG_MAX_BYTES = 10**6
        for _ in range(100):
            runner.events(LINE)
        settings.JOB_LOG_MAX_BYTES = 20_000
        for _ in range(3):
            runner.events(LINE)
        assert covered(job)
        assert numbers(job)[-1] == 103


def test_an_event_that_is_too_large_is_cut_though_the_runner_did_not(running: tuple[Job, Runner]) -> None:
    job, runner = running
    size = MAX_EVENT_BYTES + 5000
    assert runner.events({"source": "agent", "text": "y" * size}).status_code == 200
    event = read_events(job.pk, 0, 1)[0]
    assert event["kind"] == "event.truncated"
    kept = event["data"]["start"]
    assert kept.startswith('{"source":"agent","text":"yyy')
    assert event["data"]["kind"] == "log.line"
    assert len(kept) + event["data"]["bytes"] == size + len('{"source":"agent","text":""}')


def test_a_shard_cannot_make_marks_of_its_own(running: tuple[Job, Runner]) -> None:
    _, runner = running
    forged = {"seq": 1, "at": "2030", "kind": "log.dropped", "data": {"first_seq": 1, "events": 9, "bytes": 1}}
    assert "events.0.kind" in error_of(runner.events(first=1, events=[forged]))["fields"]


def test_pages_end_by_size_and_hold_at_least_a_batch(running: tuple[Job, Runner]) -> None:
    job, runner = running
    for _ in range(10):
        runner.events(LINE, LINE)
    assert [batch.first_seq for batch in read_page(job.pk, 0, 1)] == [1]
    assert [batch.first_seq for batch in read_page(job.pk, 3, 1)] == [4]
    assert len(read_page(job.pk, 0, 5000)) == 3
    assert len(read_page(job.pk, 0)) == 10
    assert read_page(job.pk, 20) == []


class TestRetention:
    @pytest.fixture(autouse=True)
    def _days(self, settings: Any) -> None:
        settings.EVENT_RETENTION_DAYS, settings.JOB_RETENTION_DAYS = 30, 90

    def ended(self, tenant: Tenant, key: str, days: float) -> Job:
        job, runner = running_job(tenant, key)
        runner.events("a", "b", "c")
        runner.finish()
        age_job(job, days)
        return job

    def test_an_old_log_goes_and_leaves_a_mark(self, tenant: Tenant, key: str) -> None:
        old, young = self.ended(tenant, key, 31), self.ended(tenant, key, 29)
        size = fresh(old).log_bytes
        assert clean_up() == (1, 0)
        assert [(event["seq"], event["kind"]) for event in read_events(old.pk, 0, 9)] == [(3, "log.dropped")]
        assert read_events(old.pk, 0, 9)[0]["data"] == {
            "first_seq": 1, "events": 3, "bytes": size, "reason": "retention",
        }  # fmt: skip
        assert covered(old)
        assert numbers(young) == [1, 2, 3]
        assert clean_up() == (0, 0)

    def test_a_job_without_events_needs_no_mark(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish()
        age_job(job, 31)
        assert clean_up() == (0, 0)
        assert numbers(job) == []

    def test_an_older_job_goes_with_all_that_is_its(self, tenant: Tenant, key: str) -> None:
        old = self.ended(tenant, key, 91)
        retried = make_job(tenant)
        Job.objects.filter(pk=retried.pk).update(retry_of=old)
        assert clean_up() == (1, 1)
        assert not Job.objects.filter(pk=old.pk).exists()
        assert fresh(retried).retry_of is None
        assert not EventBatch.objects.exists()

    def test_what_has_not_ended_stays_however_old_it_is(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.events("a")
        Job.objects.filter(pk=job.pk).update(created_at=Now())
        assert clean_up() == (0, 0)
        assert numbers(job) == [1]

    def test_zero_days_keep_everything(self, tenant: Tenant, key: str, settings: Any) -> None:
        settings.EVENT_RETENTION_DAYS = settings.JOB_RETENTION_DAYS = 0
        job = self.ended(tenant, key, 5000)
        assert clean_up() == (0, 0)
        assert numbers(job) == [1, 2, 3]

    def test_many_are_done_in_one_run_and_a_run_ends_in_time(self, tenant: Tenant, key: str) -> None:
        for _ in range(3):
            self.ended(tenant, key, 31)
        assert clean_up(run_for_s=0) == (0, 0)
        retention_task()
        assert clean_up() == (0, 0)
