"""Upgrade from the previous release, whose rows and runners work with this release.

``tests/fixtures/old_release`` holds what that release stored and sent: rows of its tables after a claim, a batch of
events and a dispatch round, and the calls of its runners, recorded from its own code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from jobs.callbacks.models import Callback
from jobs.dispatch.round import dispatch_round
from jobs.events.reader import read_events
from jobs.lifecycle.cancel import cancel
from jobs.lifecycle.reaper import recover
from jobs.models import Attempt, Job
from tests.factories.control_plane import Answer, Runner, attempts_of, fresh, make_job, make_shard, make_tenant

pytestmark = pytest.mark.django_db(transaction=True)

FOLDER = Path(__file__).resolve().parents[3] / "fixtures" / "old_release"
ROWS: dict[str, Any] = json.loads((FOLDER / "rows.json").read_text())
CALLS: dict[str, list[dict[str, Any]]] = json.loads((FOLDER / "runner_calls.json").read_text())
OLD_SCHEMA = [("jobs", "0010_fewer_indexes"), ("shards", "0008_alerts")]
TABLES = ("tenants_tenant", "shards_shard", "jobs_job", "jobs_attempt", "jobs_eventbatch", "jobs_callback")


def replay(runner: Runner, scenario: str, *, skip: tuple[str, ...] = (), after: int = 0) -> list[Answer]:
    """Repeat the recorded calls of an old runner, with numbers that follow the stored events."""
    answers: list[Answer] = []
    for call in CALLS[scenario]:
        if call["verb"] in skip:
            continue
        body = json.loads(json.dumps(call["body"]).replace("CLAIM_TOKEN", runner.token)) | {"attempt": runner.attempt}
        for name in ("first_seq", "final_seq"):
            if name in body:
                body[name] += after
        for each in body.get("events", []):
            each["seq"] += after
        answers.append(runner.call(call["verb"], body))
    return answers


@pytest.fixture
def upgraded() -> dict[str, Job]:
    """Store rows under the old schema, migrate, and return the jobs by their earlier state."""
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    MigrationExecutor(connection).migrate(OLD_SCHEMA)
    try:
        with connection.cursor() as cursor:
            for table in TABLES:
                for row in ROWS[table]:
                    cursor.execute(
                        f"INSERT INTO {table} SELECT * FROM json_populate_record(NULL::{table}, %s)",  # noqa: S608  # ours
                        [json.dumps(row)],
                    )
                cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 1000)")  # ours
            # Leases and deadlines in the rows must not have passed.
            cursor.execute("UPDATE jobs_attempt SET sent_at = now(), lease_until = now() + interval '60 s'")
            cursor.execute("UPDATE shards_shard SET last_heartbeat_at = now()")
    finally:
        MigrationExecutor(connection).migrate(latest)
    return {job.hold or ("running" if job.status == "running" else "ready"): job for job in Job.objects.all()}


def test_the_fixture_has_a_job_of_each_kind(upgraded: dict[str, Job]) -> None:
    assert {name: job.status for name, job in upgraded.items()} == {
        "running": "running", "sent": "queued", "ready": "queued",
    }  # fmt: skip


def test_a_running_job_ends_as_its_old_runner_reports(upgraded: dict[str, Job]) -> None:
    job = upgraded["running"]
    runner = Runner(ROWS["key"], job)
    answers = replay(runner, "completed", skip=("claim",), after=job.next_seq - 1)
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    ended = fresh(job)
    attempt = attempts_of(job)[0]
    assert (ended.status, ended.hold, ended.has_log) == ("completed", "", True)
    assert ended.result is not None
    assert attempt.usage is not None
    assert (ended.result["branch"], attempt.outcome, attempt.usage["turns"]) == ("myctobot/J", "completed", 1)
    events = read_events(job.pk, 0, 100)
    assert [event["seq"] for event in events] == list(range(1, ended.next_seq))
    assert events[0]["data"]["text"] == "before the upgrade"
    assert set(Callback.objects.values_list("kind", flat=True)) == {"job.started", "job.completed"}


def test_an_old_runner_can_repeat_its_claim(upgraded: dict[str, Job]) -> None:
    job = upgraded["running"]
    assert Runner(ROWS["key"], job).claim().json()["next_seq"] == job.next_seq


def test_a_running_job_of_a_lost_shard_is_queued_again(upgraded: dict[str, Job]) -> None:
    Attempt.objects.filter(job=upgraded["running"]).update(lease_until="2026-01-01T00:00:00Z")
    recover()
    assert (fresh(upgraded["running"]).status, fresh(upgraded["running"]).hold) == ("queued", "time")


def test_a_dispatched_job_is_claimed_by_an_old_runner_and_ends(upgraded: dict[str, Job]) -> None:
    job = upgraded["sent"]
    answers = replay(Runner(ROWS["key"], job, token="v" * 40), "completed")
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert (fresh(job).status, fresh(job).started_at is not None) == ("completed", True)


def test_a_queued_job_is_dispatched_and_ends(upgraded: dict[str, Job]) -> None:
    replay(Runner(ROWS["key"], upgraded["sent"], token="v" * 40), "completed")
    dispatch_round()
    job = upgraded["ready"]
    assert (fresh(job).hold, fresh(job).attempt_number) == ("sent", 1)
    answers = replay(Runner(ROWS["key"], job, token="w" * 40), "completed")
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert fresh(job).status == "completed"


@pytest.mark.parametrize(("scenario", "status"), [("completed", "completed"), ("failed", "failed")])
def test_an_old_runner_runs_a_new_job(scenario: str, status: str) -> None:
    tenant, (_, key) = make_tenant(), make_shard()
    job = make_job(tenant)
    dispatch_round()
    answers = replay(Runner(key, job), scenario)
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert fresh(job).status == status


def test_an_old_runner_receives_a_cancel_and_proves_it() -> None:
    tenant, (_, key) = make_tenant(), make_shard()
    job = make_job(tenant)
    dispatch_round()
    runner = Runner(key, job)
    assert runner.claim().status_code == 200
    cancel(tenant, job.public_id)
    answers = replay(runner, "cancelled")
    assert [answer.json()["cancel"] for answer in answers if "cancel" in answer.json()] == [True] * 4
    assert (fresh(job).status, fresh(job).error_code) == ("cancelled", "cancelled")
