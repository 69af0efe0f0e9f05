"""Estimates of waiting times for jobs in the database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.dispatch.round import dispatch_round
from jobs.models import Attempt, Job
from jobs.queue.waiting import CachedWaitExplainer, wait_status
from myctobot.tenants.models import Tenant
from tests.factories.control_plane import (
    Api,
    Runner,
    age,
    attempts_of,
    end_pause,
    fresh,
    make_job,
    make_shard,
    number_of,
    running_job,
)

pytestmark = pytest.mark.django_db


def estimate_wait_s(job: Job) -> int | None:
    waiting = wait_status(job)
    assert waiting is not None
    return waiting.estimated_wait_s


@pytest.fixture
def history(tenant: Tenant, key: str) -> None:
    """Create three ended jobs that took 200 s each."""
    for seconds in (200, 200, 200):
        job, runner = running_job(tenant, key)
        runner.finish()
        age(attempts_of(job)[0], "claimed_at", seconds)
        Attempt.objects.filter(job=job).update(ended_at=Now())


def start(tenant: Tenant, key: str, seconds_ago: float) -> None:
    job, _ = running_job(tenant, key)
    age(attempts_of(job)[0], "claimed_at", seconds_ago)


def test_with_busy_slots_it_follows_from_past_durations(tenant: Tenant, key: str, history: None) -> None:
    start(tenant, key, 150)
    start(tenant, key, 20)
    first, second, third = (make_job(tenant) for _ in range(3))
    dispatch_round()
    estimates = [estimate_wait_s(fresh(job)) for job in (first, second, third)]
    # At 200 s a job, the slots are free after 50 and 180 s, and the first one again after 250 s.
    assert estimates == [pytest.approx(50, abs=3), pytest.approx(180, abs=3), pytest.approx(250, abs=3)]


def test_a_sent_job_is_about_to_start(tenant: Tenant, key: str, history: None) -> None:
    job = make_job(tenant)
    dispatch_round()
    assert fresh(job).waiting_code == "dispatched"
    assert estimate_wait_s(fresh(job)) == 0


def test_without_history_or_shards_it_is_unknown(tenant: Tenant, key: str) -> None:
    for _ in range(2):
        running_job(tenant, key)
    job = make_job(tenant)
    dispatch_round()
    assert estimate_wait_s(fresh(job)) is None
    make_shard("sick", "git", "browser", heard=False)
    elsewhere = make_job(tenant, "browser")
    dispatch_round()
    assert estimate_wait_s(fresh(elsewhere)) is None


def test_a_burst_of_submits_reads_the_queue_once(tenant: Tenant, key: str, history: None) -> None:
    start(tenant, key, 150)
    start(tenant, key, 150)
    now = [100.0]
    explainer = CachedWaitExplainer(lambda: now[0])
    waits = []
    queries = []
    for _ in range(2):
        job = make_job(tenant)
        with CaptureQueriesContext(connection) as seen:
            waits.append(explainer.explain_stored(job))
        queries.append(len(seen))
    assert waits[0] == waits[1]
    assert waits[0].estimated_wait_s == pytest.approx(50, abs=3)
    assert queries[0] > 0 == queries[1]
    now[0] += 2
    later = explainer.explain_stored(make_job(tenant)).estimated_wait_s
    assert later is not None
    assert later > 200


def test_a_new_delayed_job_waits_at_least_until_its_time(tenant: Tenant, key: str, history: None) -> None:
    body = {"task": {"type": "prompt", "prompt": "x"}, "capabilities": ["git"]}
    later = (timezone.now() + timedelta(hours=1)).isoformat()
    waiting = Api.of(tenant).post("/jobs", {**body, "not_before": later}).json()["waiting"]
    assert waiting["code"] == "parked"
    assert waiting["estimated_wait_s"] == pytest.approx(3600, abs=5)


def test_the_api_returns_it(tenant: Tenant, key: str, history: None) -> None:
    start(tenant, key, 150)
    start(tenant, key, 150)
    job = make_job(tenant)
    dispatch_round()
    api = Api.of(tenant)
    waiting = api.get(f"/jobs/{job.public_id}").json()["waiting"]
    assert waiting["estimated_wait_s"] == pytest.approx(50, abs=3)
    assert api.get("/jobs").json()["results"][0]["waiting"]["estimated_wait_s"] is None


def test_usage_is_the_sum_of_all_attempts(tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    runner.events(
        events=[_usage(1, {"input_tokens": 10, "output_tokens": 2, "cost_usd": "free", "turns": True})], first=1
    )
    runner.events(events=[_usage(2, {"input_tokens": 30, "output_tokens": 5, "cost_usd": 0.5, "turns": 3})], first=2)
    api = Api.of(tenant)
    assert api.get(f"/jobs/{job.public_id}").json()["usage"] == {
        "turns": 3, "input_tokens": 30, "output_tokens": 5, "cost_usd": 0.5,
    }  # fmt: skip
    # The attempt is lost, and another one continues.
    from tests.integration.jobs.lifecycle.test_reaper import lose

    lose(job)
    end_pause(job)
    dispatch_round()
    again = Runner(key, job, number_of(job), "u" * 40)
    again.claim()
    again.events(events=[_usage(3, {"input_tokens": 1, "output_tokens": 1, "cost_usd": "x", "turns": -1})], first=3)
    assert api.get(f"/jobs/{job.public_id}").json()["usage"] == {
        "turns": 3, "input_tokens": 31, "output_tokens": 6, "cost_usd": 0.5,
    }  # fmt: skip


def test_without_figures_there_is_no_usage(tenant: Tenant, key: str) -> None:
    job, _ = running_job(tenant, key)
    assert Api.of(tenant).get(f"/jobs/{job.public_id}").json()["usage"] is None


def _usage(seq: int, data: dict[str, object]) -> dict[str, object]:
    return {"seq": seq, "at": "2030", "kind": "agent.usage", "data": data}
