"""Tables whose rows are written several times for each job."""

from __future__ import annotations

import pytest
from django.db import connection

from jobs.models import Attempt, EventBatch, Job

pytestmark = pytest.mark.django_db


def test_a_number_has_no_check_that_each_write_parses() -> None:
    tables = [model._meta.db_table for model in (Job, Attempt, EventBatch)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = ANY(%s::regclass[])", [tables]
        )
        found = [name for (name,) in cursor.fetchall()]
    assert sorted(found) == ["batch_ends_after_it_starts", "ended_jobs_hold_no_secret"], "use IntegerField; see Job"
