"""``manage.py autoscale`` with recorded jobs and paused pools."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from jobs.models import Attempt, Job
from myctobot.tenants.models import AuditEntry, Tenant
from shards.autoscaling.decision_log import resumed_at
from shards.models import Pool
from tests.factories.control_plane import make_shard, running_job
from tests.factories.pools import RULES

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
    """Create a job that ran for ten minutes."""
    runner = running_job(tenant, make_shard()[1])[1]
    runner.finish()
    Attempt.objects.update(claimed_at=Now() - timedelta(minutes=10), ended_at=Now())
    return Attempt.objects.get()


def test_recorded_jobs_are_simulated(ran: Attempt, rules: str) -> None:
    found = json.loads(run("simulate", rules, "--json"))
    assert found["jobs"] == 1
    # One shard for ten minutes, in hundredths of an hour.
    assert 0.16 <= found["shard_hours"] <= 0.18


def test_the_simulation_can_use_the_jobs_of_one_pool(ran: Attempt, rules: str) -> None:
    with pytest.raises(CommandError, match="No job ran in pool blue within the last 7 days"):
        run("simulate", rules, "--pool", "blue")
    Attempt.objects.update(shard_class="filesystem+git@blue")
    assert "jobs         1\n" in run("simulate", rules, "--pool", "blue")


def test_the_simulation_can_use_the_jobs_of_some_days(ran: Attempt, rules: str) -> None:
    Attempt.objects.update(ended_at=Now() - timedelta(days=3))
    with pytest.raises(CommandError, match="within the last 2 days"):
        run("simulate", rules, "--days", "2")


def test_a_delayed_job_arrives_when_it_is_ready(ran: Attempt, rules: str) -> None:
    Job.objects.update(not_before=Now() + timedelta(hours=1))
    assert "wait p50 s   0\n" in run("simulate", rules)


def test_builds_of_a_pool_are_resumed(db: None) -> None:
    pool = Pool.objects.create(name="blue")
    assert run("resume", "blue", "--by", "ada") == "Pool blue may build shards again.\n"
    assert resumed_at(pool) is not None
    assert AuditEntry.objects.get(action="pool.scaling_resumed").actor == "ada"


def test_an_unknown_pool_is_reported(db: None) -> None:
    Pool.objects.create(name="blue")
    with pytest.raises(CommandError, match="no pool 'red'; the pools are: blue"):
        run("resume", "red")
