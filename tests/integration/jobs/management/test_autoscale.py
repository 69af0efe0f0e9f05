"""``manage.py autoscale`` with what is on record: jobs that ran, and pools that are paused."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from jobs.models.job import Attempt, Job
from myctobot.tenants.models import AuditEntry, Tenant
from shards.autoscaling.decision_log import resumed_at
from shards.models.shard import Pool

from .pools import RULES
from .support import make_shard, running_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(RULES))
    return str(path)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("autoscale", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def ran(tenant: Tenant) -> Attempt:
    """A job that ran for ten minutes."""
    runner = running_job(tenant, make_shard()[1])[1]
    runner.finish()
    Attempt.objects.update(claimed_at=Now() - timedelta(minutes=10), ended_at=Now())
    return Attempt.objects.get()


def test_jobs_on_record_are_played(ran: Attempt, rules: str) -> None:
    found = json.loads(run("simulate", rules, "--json"))
    assert found["jobs"] == 1
    # One shard for ten minutes, counted in hundredths of hours.
    assert 0.16 <= found["shard_hours"] <= 0.18


def test_of_one_pool_alone(ran: Attempt, rules: str) -> None:
    with pytest.raises(CommandError, match="No job ran in pool blue within the last 7 days"):
        run("simulate", rules, "--pool", "blue")
    Attempt.objects.update(shard_class="filesystem+git@blue")
    assert "jobs         1\n" in run("simulate", rules, "--pool", "blue")


def test_of_some_days_alone(ran: Attempt, rules: str) -> None:
    Attempt.objects.update(ended_at=Now() - timedelta(days=3))
    with pytest.raises(CommandError, match="within the last 2 days"):
        run("simulate", rules, "--days", "2")


def test_a_job_comes_when_it_could_begin(ran: Attempt, rules: str) -> None:
    Job.objects.update(not_before=Now() + timedelta(hours=1))
    assert "wait p50 s   0\n" in run("simulate", rules)


def test_a_pool_may_build_again(db: None) -> None:
    pool = Pool.objects.create(name="blue")
    assert run("resume", "blue", "--by", "ada") == "Pool blue may build again.\n"
    assert resumed_at(pool) is not None
    assert AuditEntry.objects.get(action="pool.scaling_resumed").actor == "ada"


def test_a_pool_that_there_is_not(db: None) -> None:
    Pool.objects.create(name="blue")
    with pytest.raises(CommandError, match="no pool 'red'; there are: blue"):
        run("resume", "red")
