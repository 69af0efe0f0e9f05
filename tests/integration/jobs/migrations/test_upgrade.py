"""Rows of earlier releases after the upgrade."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from jobs.events.reader import read_events
from jobs.models import EventBatch, Job

EVENTS = [
    {"seq": 1, "at": "2030-01-01T00:00:00Z", "kind": "log.line", "data": {"text": "a\nb\u2028"}},
    {"seq": 2, "at": "2030-01-01T00:00:01Z", "kind": "tool.call", "data": {"id": "1", "name": "Bash", "input": {}}},
]


@pytest.mark.django_db(transaction=True)
def test_json_events_become_lines() -> None:
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    executor = MigrationExecutor(connection)
    first = [("jobs", "0001_initial"), ("tenants", "0001_initial")]
    executor.migrate(first)
    try:
        old = executor.loader.project_state(first).apps
        tenant = old.get_model("tenants", "Tenant").objects.create(slug="acme", name="Acme")
        facts = {"task": {}, "capabilities": ["git"], "timeout_s": 1, "max_turns": 1, "next_seq": 3}
        job = old.get_model("jobs", "Job").objects.create(tenant=tenant, **facts)
        old.get_model("jobs", "EventBatch").objects.create(
            job=job, attempt_number=1, first_seq=1, last_seq=2, events=EVENTS
        )
    finally:
        MigrationExecutor(connection).migrate(latest)
    assert read_events(job.pk, 0, 10) == EVENTS
    row = Job.objects.get(pk=job.pk)
    assert row.log_bytes == EventBatch.objects.get().bytes == len(EventBatch.objects.get().lines)
    assert row.log_head_seq == 2


@pytest.mark.django_db(transaction=True)
def test_waiting_jobs_keep_their_position() -> None:
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    executor = MigrationExecutor(connection)
    before = [("jobs", "0003_event_indexes"), ("tenants", "0001_initial")]
    executor.migrate(before)
    try:
        old = executor.loader.project_state(before).apps
        tenant = old.get_model("tenants", "Tenant").objects.create(slug="acme", name="Acme")
        facts = {"task": {}, "capabilities": ["filesystem", "git"], "timeout_s": 1, "max_turns": 1}
        jobs = old.get_model("jobs", "Job").objects
        waiting, sent = (jobs.create(tenant=tenant, public_id=name, **facts) for name in ("waiting", "sent"))
        old.get_model("jobs", "Attempt").objects.create(job=sent, number=1, queue="q", shard_class="c", state="sent")
    finally:
        MigrationExecutor(connection).migrate(latest)
    held = {job.public_id: (job.lane, job.hold) for job in Job.objects.all()}
    assert held == {"waiting": ("filesystem+git", ""), "sent": ("filesystem+git", "sent")}
    assert Job.objects.get(pk=waiting.pk).ready_at == Job.objects.get(pk=waiting.pk).created_at
