"""Values of the metrics, compared with the database and the broker."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from jobs.dispatch.round import dispatch_round
from jobs.models import Attempt, Job
from myctobot.lib.prometheus import MAX_VALUES
from myctobot.metrics import processes
from myctobot.metrics.views import metrics, read_exposition
from myctobot.tenants.models import Tenant
from myctobot.web.process_caches import SCOPE_KEY, ProcessCaches
from shards.autoscaling.models import ScalingDecision
from shards.models import Pool, Shard
from shards.monitoring.models import Alert, StateChange
from shards.operations.models import Operation
from tests.factories.control_plane import age_job, make_job, make_operator, make_shard, running_job
from tests.factories.samples import parsed, scrape, value

pytestmark = pytest.mark.django_db
CLASS = "filesystem+git"


def end(tenant: Tenant, key: str, outcome: str) -> Job:
    job, runner = running_job(tenant, key)
    error = {"code": "clone_failed", "message": "No such repository.", "retryable": False}
    assert runner.finish(outcome, **({"error": error} if outcome == "failed" else {})).status_code == 200
    return job


def test_shards_by_state_and_what_each_of_them_says(shard: Shard) -> None:
    make_shard("quiet", heard=False)
    report = {
        "slots": 1,
        "cpu_percent": 37.5,
        "memory_mb": 100,
        "memory_total_mb": 400,
        "disk_free_mb": 2,
        "running": ["a.1"],
    }
    Shard.objects.filter(pk=shard.pk).update(report=report, last_heartbeat_at=Now() - timedelta(seconds=40))
    found = scrape()
    assert found["myctobot_shards"][(("state", "ready"),)] == 2
    assert found["myctobot_shards"][(("state", "lost"),)] == 0
    one = (("shard", "one"),)
    assert 40 <= found["myctobot_shard_heartbeat_age_seconds"][one] < 60
    assert (("shard", "quiet"),) not in found["myctobot_shard_heartbeat_age_seconds"]
    assert found["myctobot_shard_cpu_usage_ratio"][one] == pytest.approx(0.375)
    assert found["myctobot_shard_memory_used_bytes"][one] == 100 * 1024 * 1024
    assert (found["myctobot_shard_slots"][one], found["myctobot_shard_runners"][one]) == (1, 1)


def test_a_class_with_its_slots_and_what_waits_for_it(tenant: Tenant, key: str, broker: Redis) -> None:
    running_job(tenant, key)
    make_job(tenant)
    dispatch_round()
    waiting = [make_job(tenant) for _ in range(3)]
    Job.objects.filter(pk=waiting[0].pk).update(ready_at=Now() - timedelta(seconds=90))
    label = (("class", CLASS),)
    found = scrape()
    assert [found[f"myctobot_class_slots{part}"][label] for part in ("", "_running", "_free")] == [2, 1, 0]
    # No worker takes messages here, so the message of the running attempt is still in the queue.
    assert found["myctobot_queue_messages"][label] == broker.llen(f"cap.{CLASS}") == 2
    assert found["myctobot_queue_ready_jobs"][label] == 3
    assert 90 <= found["myctobot_queue_oldest_wait_seconds"][label] < 120
    assert found["myctobot_jobs_waiting"] == {
        (("state", "ready"),): 3, (("state", "sent"),): 1, (("state", "time"),): 0, (("state", "key"),): 0
    }  # fmt: skip
    assert found["myctobot_broker_up"][()] == 1


def test_jobs_that_ended_are_counted_by_how(tenant: Tenant, key: str) -> None:
    for outcome in ("completed", "completed", "failed"):
        end(tenant, key, outcome)
    found = scrape()
    in_database = {status: Job.objects.filter(status=status).count() for status in ("completed", "failed", "cancelled")}
    assert {status: value("jobs_ended_total", status=status) for status in in_database} == in_database
    assert found["myctobot_attempts_ended_total"][(("state", "ended"),)] == 3


def test_what_agents_used_is_summed_when_their_attempts_have_ended(tenant: Tenant, key: str) -> None:
    job = end(tenant, key, "completed")
    running, _ = running_job(tenant, key)
    usage = {"turns": 3, "input_tokens": 1000, "output_tokens": 50, "cost_usd": 0.25}
    Attempt.objects.filter(job__in=[job, running]).update(usage=usage)
    assert value("agent_tokens_total", kind="input") == 1000
    assert value("agent_tokens_total", kind="output") == 50
    assert value("agent_cost_dollars_total") == 0.25


def test_operations_decisions_and_alerts(shard: Shard) -> None:
    other, _ = make_shard("two")
    began = Now() - timedelta(seconds=30)
    done = {"shard": shard, "requested_by": "olga", "started_at": began, "ended_at": Now()}
    Operation.objects.create(kind="provision", state="done", **done)
    Operation.objects.create(kind="restart", state="failed", **done)
    Operation.objects.create(kind="stop", state="running", shard=other, requested_by="olga")
    pool = Pool.objects.create(name="premium")
    ScalingDecision.objects.create(pool=pool, change=-2, reason="idle", inputs={}, is_dry_run=True)
    StateChange.objects.create(shard=shard, was="ready", state="suspect")
    Alert.objects.create(key="a", kind="shard.suspect", subject="one is suspect", text="It is silent.")
    Alert.objects.create(key="b", kind="shard.suspect", subject="two was", text="Sent.", ended_at=Now())
    found = scrape()
    assert found["myctobot_operations_ended_total"][(("kind", "restart"), ("state", "failed"))] == 1
    assert found["myctobot_operation_duration_seconds_sum"][
        (("kind", "provision"), ("state", "done"))
    ] == pytest.approx(30)
    assert found["myctobot_operations_live"] == {(("kind", "stop"), ("state", "running")): 1}
    decision = (("direction", "shrink"), ("dry_run", "true"), ("failed", "false"), ("pool", "premium"))
    assert found["myctobot_scaling_decisions_total"] == {decision: 1}
    assert found["myctobot_alerts_undelivered"][()] == 1
    assert found["myctobot_shard_state_changes_total"][(("state", "suspect"),)] == 1


def test_rounds_are_timed_and_count_what_they_sent(tenant: Tenant, shard: Shard) -> None:
    from jobs.dispatch.round_metrics import round_clock

    make_job(tenant)
    round_clock._flush_at = float("-inf")
    dispatch_round()
    found = scrape()
    assert found["myctobot_dispatch_round_duration_seconds_count"][()] >= 1
    assert found["myctobot_dispatch_attempts_sent_total"][()] >= 1
    by_bound = found["myctobot_dispatch_round_duration_seconds_bucket"]
    buckets = [by_bound[labels] for labels in sorted(by_bound, key=lambda labels: float(labels[0][1]))]
    assert buckets == sorted(buckets)
    assert buckets[-1] == found["myctobot_dispatch_round_duration_seconds_count"][()]


def test_this_process_tells_what_it_uses(tenant: Tenant) -> None:
    processes.report()
    found = scrape()
    ((_, memory),) = found["myctobot_process_resident_memory_bytes"].items()
    assert memory > 10_000_000


def test_names_and_types_are_as_prometheus_wants_them(tenant: Tenant, key: str) -> None:
    end(tenant, key, "completed")
    for family in text_string_to_metric_families(read_exposition().decode()):
        assert re.fullmatch(r"myctobot_[a-z_]+", family.name), family.name
        assert family.documentation, family.name
        names = {sample.name for sample in family.samples}
        assert all(name.endswith("_total") == (family.type == "counter") for name in names), family.name


def test_labels_are_bounded_where_operators_name_things(tenant: Tenant) -> None:
    for number in range(MAX_VALUES + 20):
        make_shard(f"s{number}", f"git-{number}", slots=1)
    found = scrape()
    assert len(found["myctobot_class_slots"]) == MAX_VALUES + 1
    assert found["myctobot_class_slots"][(("class", "other"),)] == 20
    assert sum(found["myctobot_class_slots"].values()) == MAX_VALUES + 20


def test_however_many_shards_there_are_the_queries_are_as_many(tenant: Tenant, key: str) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            read_exposition()
        return len(seen)

    before = queries()
    for number in range(5):
        make_shard(f"s{number}", f"git-{number}")
        make_job(tenant)
    assert queries() == before
    assert before < 40


def test_calls_of_one_process_cost_one_reading(tenant: Tenant, shard: Shard) -> None:
    operator, caches = make_operator(), ProcessCaches()

    def read(of: ProcessCaches) -> bytes:
        request = RequestFactory().get("/metrics")
        request.user = operator
        request.scope = {SCOPE_KEY: of}  # type: ignore[attr-defined]  # as an ASGI request has it
        return metrics(request).content

    first = read(caches)
    Shard.objects.all().delete()
    with CaptureQueriesContext(connection) as seen:
        again = read(caches)
    assert again == first
    assert not seen.captured_queries
    assert parsed(first.decode())
    assert read(ProcessCaches()) != first


def test_a_name_with_quotes_and_line_breaks_breaks_no_line(tenant: Tenant) -> None:
    shard, _ = make_shard("one")
    Shard.objects.filter(pk=shard.pk).update(name='x"} 1\nmyctobot_evil 1')
    found = scrape()
    assert "myctobot_evil" not in found
    assert (("shard", 'x"} 1\nmyctobot_evil 1'),) in found["myctobot_shard_slots"]


def test_counts_stay_when_old_jobs_go(tenant: Tenant, key: str, settings: Any) -> None:
    from jobs.maintenance.retention import clean_up

    settings.JOB_RETENTION_DAYS = 1
    for outcome in ("completed", "failed", "completed"):
        age_job(end(tenant, key, outcome), 2)
    end(tenant, key, "completed")
    assert value("jobs_ended_total", status="completed") == 3
    assert clean_up()[1] == 3
    assert Job.objects.count() == 1
    assert value("jobs_ended_total", status="completed") == 3
    assert value("jobs_ended_total", status="failed") == 1
    clean_up()
    assert value("jobs_ended_total", status="completed") == 3
