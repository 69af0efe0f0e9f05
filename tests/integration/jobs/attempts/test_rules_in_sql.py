"""Rules that SQL knows too: both sides give the same answer for every state."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from django.db import connection

from jobs.attempts.claim_rows import MAY_TAKE_JOBS_SQL
from jobs.events.truncation import COUNT_BATCH_SQL, FITS_SQL, LogSize, fits
from jobs.models import Job
from jobs.models.states import Hold
from jobs.models.transition_table import ALL_TRANSITIONS, JobTransition
from myctobot.contract.jobs import JobStatus
from myctobot.lib.sql import fetch_one, without_index
from myctobot.tenants.models import Tenant
from shards.health.rules import may_take_jobs
from shards.models import ShardState
from tests.factories.control_plane import analyze_many_jobs

pytestmark = pytest.mark.django_db
BOUND = 101


@pytest.mark.parametrize("state", ShardState)
@pytest.mark.parametrize(("is_active", "is_spare"), [*product((True, False), (True, False))])
def test_a_shard_that_may_take_jobs(state: ShardState, is_active: bool, is_spare: bool) -> None:
    sql = f"SELECT {MAY_TAKE_JOBS_SQL} FROM (SELECT %s::bool AS is_active, %s::bool AS is_spare, %s::text AS state) s"  # noqa: S608  # ours
    expected = may_take_jobs(is_active=is_active, is_spare=is_spare, state=state)
    assert fetch_one(sql, [is_active, is_spare, state.value]) == (expected,)


@pytest.mark.parametrize("transition", ALL_TRANSITIONS, ids=lambda transition: transition.name)
def test_the_start_of_a_transition(transition: JobTransition) -> None:
    sql = f"SELECT {transition.condition(without_index)} FROM (SELECT %s::text AS status, %s::text AS hold) job"  # noqa: S608  # ours
    for status, hold in product(JobStatus, Hold):
        expected = status in transition.sources and (transition.holds is None or hold in transition.holds)
        assert fetch_one(sql, [status.value, hold.value]) == (expected,), (status, hold)


@pytest.mark.parametrize(("stored", "size"), [*product((0, 49, 50, 51, 100, 101, 102), (1, 50, 51))])
def test_the_size_of_a_log(stored: int, size: int, settings: Any) -> None:
    settings.JOB_LOG_MAX_BYTES = BOUND
    counted = COUNT_BATCH_SQL.replace("log_bytes = ", "", 1).replace("log_head_seq = ", "", 1)
    sql = f"SELECT {FITS_SQL}, {counted} FROM (SELECT %(stored)s::bigint AS log_bytes, 7 AS log_head_seq) job"  # noqa: S608  # ours
    values = {"stored": stored, "bytes": size, "log_bound": BOUND, "last_seq": 9}
    head = 9 if stored + size <= BOUND // 2 else 7
    assert fetch_one(sql, values) == (fits(stored, size), stored + size, head)
    assert (LogSize(stored + size, head).excess == 0) is fits(stored, size)


def test_a_column_without_its_index(tenant: Tenant) -> None:
    """The planner uses no partial index of the column."""
    partial = [index.name for index in Job._meta.indexes if index.condition and "status" in str(index.condition)]
    analyze_many_jobs(tenant)
    plans = {}
    with connection.cursor() as cursor:
        for column in ("status", without_index("status")):
            query = f"EXPLAIN SELECT 1 FROM jobs_job WHERE {column} = 'running' AND tenant_id = %s"  # noqa: S608  # our own columns
            cursor.execute(query, [tenant.pk])
            plans[column] = "\n".join(row[0] for row in cursor.fetchall())
    assert any(name in plans["status"] for name in partial)
    assert not any(name in plans[without_index("status")] for name in partial)
    same = f"SELECT {without_index('x')} = 3, {without_index('y')} IS NULL FROM (SELECT 3 x, NULL y) t"  # noqa: S608  # ours
    assert fetch_one(same, []) == (True, True)
