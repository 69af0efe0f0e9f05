"""Limits of logs: a long log loses its middle, an old log is deleted, and a marker replaces the events."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Sum
from django.db.models.functions import Now

from jobs.events.reader import read_events, read_page
from jobs.maintenance.retention import clean_up
from jobs.models import EventBatch, Job
from jobs.tasks import retention_task
from myctobot.contract.limits import MAX_EVENT_BYTES
from myctobot.tenants.models import Tenant
from tests.factories.control_plane import Runner, age_job, error_of, fresh, make_job, running_job

pytestmark = pytest.mark.django_db
LINE = "x" * 900


@pytest.fixture
def running(tenant: Tenant, key: str) -> tuple[Job, Runner]:
    return running_job(tenant, key)


def numbers(job: Job, after: int = 0) -> list[int]:
    return [event["seq"] for event in read_events(job.pk, after, 10_000)]


def is_complete(job: Job, after: int = 0) -> bool:
    """Return whether each number has its event or a marker that replaces it."""
    last = after
    for event in read_events(job.pk, after, 10_000):
        first = event["data"]["first_seq"] if event["kind"] == "log.dropped" else event["seq"]
        if not first <= last + 1 <= event["seq"]:
            return False
        last = event["seq"]
    return last == fresh(job).next_seq - 1


class TestLimit:
    @pytest.fixture(autouse=True)
    def _low_limit(self, settings: Any) -> None:
        settings.JOB_LOG_MAX_BYTES = 20_000

    def test_a_marker_replaces_the_middle_and_has_its_size(self, running: tuple[Job, Runner]) -> None:
        job, runner = running
        for _ in range(50):
            runner.events(LINE, LINE)
        events = read_events(job.pk, 0, 1000)
        markers = [event for event in events if event["kind"] == "log.dropped"]
        assert [event["seq"] for event in events][:4] == [1, 2, 3, 4]
        assert events[-1]["seq"] == 100
        assert len(markers) == 1
        gone = markers[0]["data"]
        assert gone["reason"] == "bound"
        assert gone["events"] == markers[0]["seq"] - gone["first_seq"] + 1 == 100 - (len(events) - 1)
        assert is_complete(job)

    def test_stored_events_stay_within_the_limit(self, running: tuple[Job, Runner], settings: Any) -> None:
        job, runner = running
        for count in range(60):
            runner.events(*[LINE] * (1 + count % 4))
            stored = EventBatch.objects.filter(job=job).aggregate(total=Sum("bytes"))["total"]
            assert stored == fresh(job).log_bytes <= settings.JOB_LOG_MAX_BYTES
        assert is_complete(job)

    def test_the_marker_counts_the_removed_bytes(self, running: tuple[Job, Runner]) -> None:
        job, runner = running
        for _ in range(60):
            runner.events(LINE)
        marker = next(event for event in read_events(job.pk, 0, 100) if event["kind"] == "log.dropped")
        lines = {batch.bytes for batch in EventBatch.objects.filter(job=job, bytes__gt=0)}
        assert len(lines) <= 3
        assert min(lines) <= marker["data"]["bytes"] / marker["data"]["events"] <= max(lines)

    @pytest.mark.parametrize("after", [0, 3, 15, 40, 77, 99])
    def test_a_reader_continues_from_any_position(self, running: tuple[Job, Runner], after: int) -> None:
        job, runner = running
        for _ in range(50):
            runner.events(LINE, LINE)
        assert is_complete(job, after)

    def test_a_batch_above_the_limit_is_kept_while_it_is_the_newest(self, running: tuple[Job, Runner]) -> None:
        job, runner = running
        runner.events("before")
        runner.events(*[LINE] * 30)
        runner.events("after")
        assert numbers(job)[-1] == 32
        assert is_complete(job)

    def test_a_lower_limit_applies_to_a_stored_log(self, running: tuple[Job, Runner], settings: Any) -> None:
        job, runner = running
        settings.JOB_LOG_MAX_BYTES = 10**6
        for _ in range(100):
            runner.events(LINE)
        settings.JOB_LOG_MAX_BYTES = 20_000
        for _ in range(3):
            runner.events(LINE)
        assert is_complete(job)
        assert numbers(job)[-1] == 103


def test_the_control_plane_truncates_an_event_that_is_too_large(running: tuple[Job, Runner]) -> None:
    job, runner = running
    size = MAX_EVENT_BYTES + 5000
    assert runner.events({"source": "agent", "text": "y" * size}).status_code == 200
    event = read_events(job.pk, 0, 1)[0]
    assert event["kind"] == "event.truncated"
    kept = event["data"]["start"]
    assert kept.startswith('{"source":"agent","text":"yyy')
    assert event["data"]["kind"] == "log.line"
    assert len(kept) + event["data"]["bytes"] == size + len('{"source":"agent","text":""}')


def test_a_shard_cannot_send_markers(running: tuple[Job, Runner]) -> None:
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
    def _retention_days(self, settings: Any) -> None:
        settings.EVENT_RETENTION_DAYS, settings.JOB_RETENTION_DAYS = 30, 90

    def ended(self, tenant: Tenant, key: str, days: float) -> Job:
        job, runner = running_job(tenant, key)
        runner.events("a", "b", "c")
        runner.finish()
        age_job(job, days)
        return job

    def test_an_old_log_is_replaced_by_a_marker(self, tenant: Tenant, key: str) -> None:
        old, young = self.ended(tenant, key, 31), self.ended(tenant, key, 29)
        size = fresh(old).log_bytes
        assert clean_up() == (1, 0)
        assert [(event["seq"], event["kind"]) for event in read_events(old.pk, 0, 9)] == [(3, "log.dropped")]
        assert read_events(old.pk, 0, 9)[0]["data"] == {
            "first_seq": 1, "events": 3, "bytes": size, "reason": "retention",
        }  # fmt: skip
        assert is_complete(old)
        assert numbers(young) == [1, 2, 3]
        assert clean_up() == (0, 0)

    def test_a_job_without_events_gets_no_marker(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish()
        age_job(job, 31)
        assert clean_up() == (0, 0)
        assert numbers(job) == []

    def test_an_older_job_is_deleted_with_its_rows(self, tenant: Tenant, key: str) -> None:
        old = self.ended(tenant, key, 91)
        retried = make_job(tenant)
        Job.objects.filter(pk=retried.pk).update(retry_of=old)
        assert clean_up() == (1, 1)
        assert not Job.objects.filter(pk=old.pk).exists()
        assert fresh(retried).retry_of is None
        assert not EventBatch.objects.exists()

    def test_a_running_job_is_kept_at_any_age(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.events("a")
        Job.objects.filter(pk=job.pk).update(created_at=Now())
        assert clean_up() == (0, 0)
        assert numbers(job) == [1]

    def test_zero_days_disable_the_deletion(self, tenant: Tenant, key: str, settings: Any) -> None:
        settings.EVENT_RETENTION_DAYS = settings.JOB_RETENTION_DAYS = 0
        job = self.ended(tenant, key, 5000)
        assert clean_up() == (0, 0)
        assert numbers(job) == [1, 2, 3]

    def test_a_run_deletes_many_logs_and_respects_its_time_limit(self, tenant: Tenant, key: str) -> None:
        for _ in range(3):
            self.ended(tenant, key, 31)
        assert clean_up(run_for_s=0) == (0, 0)
        retention_task()
        assert clean_up() == (0, 0)
