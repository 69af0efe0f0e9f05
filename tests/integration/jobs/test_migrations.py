"""What an earlier release stored is readable after the upgrade."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from jobs.event_log import read_events
from jobs.models import EventBatch, Job

EVENTS = [
    {"seq": 1, "at": "2030-01-01T00:00:00Z", "kind": "log.line", "data": {"text": "a\nb\u2028"}},
    {"seq": 2, "at": "2030-01-01T00:00:01Z", "kind": "tool.call", "data": {"id": "1", "name": "Bash", "input": {}}},
]


@pytest.mark.django_db(transaction=True)
def test_events_that_were_json_become_lines() -> None:
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    executor = MigrationExecutor(connection)
    executor.migrate([("jobs", "0001_initial")])
    try:
        old = executor.loader.project_state([("jobs", "0001_initial")]).apps
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
