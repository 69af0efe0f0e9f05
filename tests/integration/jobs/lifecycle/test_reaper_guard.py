"""Guard of each row in the reaper: a row that raises must not stop the rows after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import structlog
from django.db import connection
from django.db.models.functions import Now

from jobs.dispatch.round import dispatch_round
from jobs.lifecycle.cancel import cancel
from jobs.lifecycle.reaper import CANCEL_DEADLINE_S, RUN_GRACE_S, recover
from jobs.models import Job
from myctobot.contract.limits import CLAIM_DEADLINE_S, LEASE_S, LOST_AFTER_S
from myctobot.tenants.models import Tenant
from tests.factories.control_plane import age, attempts_of, fresh, make_job, make_shard, running_job

pytestmark = pytest.mark.django_db
# PostgreSQL itself refuses every write to this job and to its attempts.
TRAP = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'this row cannot be written'; END $$;
    CREATE TRIGGER trap BEFORE UPDATE ON jobs_job FOR EACH ROW WHEN (OLD.id = {pk}) EXECUTE FUNCTION refuse();
    CREATE TRIGGER trap BEFORE UPDATE ON jobs_attempt FOR EACH ROW WHEN (OLD.job_id = {pk}) EXECUTE FUNCTION refuse();
"""


def sent(tenant: Tenant, key: str) -> Job:
    job = make_job(tenant)
    dispatch_round()
    return job


def running(tenant: Tenant, key: str) -> Job:
    return running_job(tenant, key)[0]


def unclaimed(job: Job) -> None:
    age(attempts_of(job)[0], "sent_at", CLAIM_DEADLINE_S + 1)


def waited_too_long(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(queue_deadline=Now())


def silent(job: Job) -> None:
    age(attempts_of(job)[0], "lease_until", LOST_AFTER_S - LEASE_S + 1)


def cancel_unproven(job: Job) -> None:
    cancel(job.tenant, job.public_id)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE jobs_job SET cancel_requested_at = now() - make_interval(secs => %s) WHERE id = %s",
            [CANCEL_DEADLINE_S + 1, job.pk],
        )


def overdue(job: Job) -> None:
    age(attempts_of(job)[0], "claimed_at", job.timeout_s + RUN_GRACE_S + 1)


STEPS: dict[str, tuple[Callable[[Tenant, str], Job], Callable[[Job], None], str]] = {
    "an attempt that no shard claims": (sent, unclaimed, "queued"),
    "a job that has waited too long": (sent, waited_too_long, "failed"),
    "a runner that fell silent": (running, silent, "queued"),
    "a cancel that is not proven": (running, cancel_unproven, "cancelled"),
    "a run that is overdue": (running, overdue, "failed"),
}


@pytest.mark.parametrize("step", STEPS)
def test_the_rows_after_a_bad_one_are_handled(tenant: Tenant, step: str) -> None:
    make, bring_about, status = STEPS[step]
    _, key = make_shard("one", slots=3)
    jobs = [make(tenant, key) for _ in range(3)]
    for job in jobs:
        bring_about(job)
    bad, before = jobs[0], attempts_of(jobs[0])[0].state
    with connection.cursor() as cursor:
        cursor.execute(TRAP.format(pk=bad.pk))
    with structlog.testing.capture_logs() as logs:
        recover()
    assert [fresh(job).status for job in jobs[1:]] == [status, status]
    assert all(attempts_of(job)[0].ended_at is not None for job in jobs[1:])
    assert attempts_of(bad)[0].state == before
    errors: list[Any] = [entry for entry in logs if entry["event"] == "reaper.row_failed"]
    assert [(entry["job"], entry["log_level"]) for entry in errors] == [(bad.public_id, "error")]
