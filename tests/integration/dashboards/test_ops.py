"""Numbers of the operators' pages, compared with the database."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext

from jobs.models import Job
from myctobot.dashboards.ops import history
from myctobot.dashboards.ops.listing import PAGE
from myctobot.tenants.models import Member, Tenant
from shards.autoscaling.models import ScalingDecision
from shards.models import Pool, Shard, ShardState
from shards.monitoring.models import ShardSample
from shards.operations.models import Operation
from tests.factories.control_plane import (
    age_job,
    make_job,
    make_operator,
    make_shard,
    make_tenant,
    running_job,
)

pytestmark = pytest.mark.django_db
PARTIAL = {"HX-Request": "true"}
ERROR = {"code": "clone_failed", "message": "No such repository.", "retryable": False}


@pytest.fixture
def operator(db: None) -> Client:
    browser = Client()
    browser.force_login(make_operator())
    return browser


def look(browser: Client, query: str = "", **more: Any) -> str:
    answer = browser.get(f"/ops/{query}", **more)
    assert answer.status_code == 200
    return answer.content.decode()


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.replace("<wbr>", "")))


def names(html: str) -> list[str]:
    return re.findall(r'id="shard-([^"]+)"', html)


def tile(html: str, title: str) -> str:
    found = re.search(rf"<dt>{title}</dt>(.*?)</div>", html, re.DOTALL)
    assert found
    return text(found[1]).strip()


def test_the_figures_on_top(operator: Client, tenant: Tenant, key: str) -> None:
    make_shard("silent", heard=False)
    make_shard("lost", state=ShardState.LOST)
    make_shard("gone", state=ShardState.GONE)
    make_shard("off", state=ShardState.STOPPED, heard=False)
    for outcome in ("completed", "completed", "completed", "failed"):
        _, runner = running_job(tenant, key)
        runner.finish(outcome, **({"error": ERROR} if outcome == "failed" else {}))
    yesterday, runner = running_job(tenant, key)
    runner.finish("completed")
    age_job(yesterday, 1)
    running_job(tenant, key)
    make_job(tenant, "git")
    html = look(operator)
    expected = {"Shards": "4", "Active": "1", "Unhealthy": "2", "Success today": "75 %", "Running": "1", "Waiting": "1"}
    assert {title: tile(html, title) for title in expected} == expected
    assert tile(html, "Jobs today") == "4 3 completed, 1 failed"


def test_a_shard_with_all_that_is_known_of_it(operator: Client, tenant: Tenant, key: str) -> None:
    report = {"slots": 2, "cpu_percent": 37.4, "memory_mb": 300, "memory_total_mb": 512, "running": []}
    Shard.objects.update(report=report, last_heartbeat_at=Now() - timedelta(seconds=3))
    running_job(tenant, key)
    html = look(operator)
    assert re.search(r"one filesystem\+git ready 1/2 37 % 300 of 512 MB \d+ s ago 1 job live on one", text(html))
    assert 'id="live-one" href="/ops/shards/one/"' in html


def test_a_shard_that_said_nothing_yet_has_dashes(operator: Client) -> None:
    make_shard("new", state=ShardState.REQUESTED, heard=False)
    assert "new filesystem+git requested 0/2 — — never —" in text(look(operator))


def test_why_a_shard_takes_no_job_is_said(operator: Client) -> None:
    from shards.lifecycle.suspensions import drain

    make_shard("suspect", state=ShardState.SUSPECT)
    Shard.objects.update(state_reason="silent for 40 s")
    make_shard("closed")
    drain("closed", by="anna", reason="kernel update")
    make_shard("mute")
    Shard.objects.filter(name="mute").update(last_heartbeat_at=Now() - timedelta(seconds=60))
    shown = text(look(operator))
    assert "suspect silent for 40 s" in shown
    assert "by anna: kernel update" in shown
    assert re.search(r"mute filesystem\+git ready silent since", shown)


def test_filters_and_what_means_nothing(operator: Client) -> None:
    make_shard("alpha", "git", pool="premium")
    make_shard("beta", "browser", state=ShardState.LOST)
    make_shard("gone", state=ShardState.GONE)
    assert names(look(operator)) == ["alpha", "beta"]
    assert names(look(operator, "?state=unhealthy")) == ["beta"]
    assert names(look(operator, "?state=gone")) == ["gone"]
    assert names(look(operator, "?pool=premium")) == ["alpha"]
    assert names(look(operator, "?q=BROWS")) == ["beta"]
    assert names(look(operator, "?state=nonsense&q=%00&pool=")) == ["alpha", "beta"]
    assert names(look(operator, "?q=%27%20OR%201%3D1%20--")) == []


def test_pages_go_by_name_and_keep_the_filters(operator: Client) -> None:
    for number in range(2 * PAGE + 5):
        make_shard(f"s{number:03}", slots=1)
    first = look(operator, "?q=s")
    onward = re.search(r'id="page-after" class="button" href="([^"]+)"', first)
    assert onward
    second = look(operator, onward[1].replace("&amp;", "&"))
    assert names(first) + names(second) == [f"s{number:03}" for number in range(2 * PAGE)]
    assert "q=s" in onward[1]
    back = re.search(r'id="page-before" class="button" href="([^"]+)"', second)
    assert back
    assert names(look(operator, back[1].replace("&amp;", "&"))) == names(first)


def test_queries_do_not_grow_with_the_shards_and_jobs(operator: Client, tenant: Tenant, key: str) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            look(operator)
        return len(seen)

    make_job(tenant)
    before = queries()
    for number in range(PAGE - 5):
        other, _ = make_shard(f"s{number:02}", f"git-{number}")
        Operation.objects.create(shard=other, kind="restart", requested_by="olga")
        make_job(tenant)
    assert queries() == before
    assert before <= 30


def test_a_refresh_has_only_the_parts_that_change(operator: Client, shard: Shard) -> None:
    whole, part = look(operator, "?state=ready"), look(operator, "?state=ready", headers=PARTIAL)
    assert "<form" in whole
    assert "<html" in whole
    assert "<form" not in part
    assert "<html" not in part
    assert 'id="ops-totals" class="tiles" hx-swap-oob="true"' in part
    assert 'hx-swap-oob="true"' not in whole
    # It asks for the same again, with the same filters.
    assert part.count('hx-get="/ops/?state=ready"') == whole.count('hx-get="/ops/?state=ready"') == 1


def test_operations_under_way_with_their_last_step(operator: Client, shard: Shard) -> None:
    steps = [{"at": "2026-01-01T00:00:00Z", "text": "made"}, {"at": "2026-01-01T00:00:05Z", "text": "waits for it"}]
    Operation.objects.create(
        shard=shard, kind="provision", state="running", steps=steps, requested_by="olga", started_at=Now()
    )
    other, _ = make_shard("two")
    Operation.objects.create(
        shard=other, kind="stop", state="failed", error="<b>no</b>", requested_by="max", ended_at=Now()
    )
    shown = text(look(operator))
    assert "running provision one" in shown
    assert "Step 2: waits for it · by olga" in shown
    assert "stop" not in shown.partition("Running operations")[2].partition("Scaling")[0]
    page = operator.get("/ops/operations/").content.decode()
    assert "&lt;b&gt;no&lt;/b&gt;" in page
    assert "<b>no</b>" not in page


def test_scaling_decisions_with_their_reason_newest_first_and_dry_runs_marked(operator: Client) -> None:
    pool = Pool.objects.create(name="premium")
    for change, dry in ((2, False), (-1, True)):
        ScalingDecision.objects.create(pool=pool, change=change, reason=f"because {change}", inputs={}, is_dry_run=dry)
    shown = text(look(operator)).partition("Scaling decisions")[2]
    assert re.search("\u22121 premium dry run .* because -1 [+]2 premium (?!dry run).* because 2", shown)


def test_lists_go_on_on_pages_of_their_own(operator: Client, shard: Shard) -> None:
    pool = Pool.objects.create(name="premium")
    rows = [ScalingDecision(pool=pool, change=1, reason=f"because {n}", inputs={}, is_dry_run=False) for n in range(55)]
    ScalingDecision.objects.bulk_create(rows)
    first = operator.get("/ops/decisions/").content.decode()
    older = re.search(r'href="(\?before=\d+)"', first)
    assert older
    second = operator.get(f"/ops/decisions/{older[1]}").content.decode()
    found = re.findall(r"because \d+", first + second)
    assert found == [f"because {n}" for n in reversed(range(55))]
    assert operator.get("/ops/decisions/?before=nonsense").status_code == 200
    assert operator.get("/ops/queues/?page=nonsense").status_code == 200


def test_a_queue_with_what_waits_for_it(operator: Client, tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    Job.objects.filter(pk=job.pk).update(ready_at=Now() - timedelta(seconds=90))
    runner.finish("completed")
    waiting = make_job(tenant)
    Job.objects.filter(pk=waiting.pk).update(ready_at=Now() - timedelta(seconds=200))
    shown = text(look(operator)).partition("Queues")[2]
    assert re.search(r"filesystem\+git 1/1 0/2 \d+ 1 3 min 2\d s 1 min 30 s 1 min 30 s", shown), shown[:300]


def test_who_is_a_member_follows_a_job_live_and_another_sees_it_in_the_panel(
    operator: Client, tenant: Tenant, key: str
) -> None:
    job, _ = running_job(tenant, key)
    assert f'href="/admin/jobs/job/{job.pk}/change/"' in operator.get("/ops/shards/one/").content.decode()
    Member.objects.create(tenant=make_tenant("other"), user=User.objects.get(username="olga"))
    assert f'href="/jobs/{job.public_id}/"' not in operator.get("/ops/shards/one/").content.decode()
    Member.objects.all().delete()
    Member.objects.create(tenant=tenant, user=User.objects.get(username="olga"))
    assert f'href="/jobs/{job.public_id}/"' in operator.get("/ops/shards/one/").content.decode()
    assert operator.get("/ops/shards/none/").status_code == 404


def test_charts_count_what_started_and_ended_and_how_shards_were(operator: Client, tenant: Tenant, key: str) -> None:
    for _ in range(3):
        _, runner = running_job(tenant, key)
        runner.finish("completed")
    running_job(tenant, key)
    shard = Shard.objects.get()
    facts = {"cpu_percent": 1, "memory_mb": 1, "memory_total_mb": 1, "disk_free_mb": 1, "running": 1, "slots": 4}
    ShardSample.objects.create(shard=shard, at=Now(), state="ready", **facts)
    jobs, wait, utilisation, states = history.read_charts()
    assert jobs.summary == "Jobs in five minutes. started: 4 last, 4 at most; ended: 3 last, 3 at most."
    # The wait is the time between two statements of this test.
    waited = re.match(r"How long jobs waited \(p95\)\. waited: ([0-9.]+) s last", wait.summary)
    assert waited is not None
    assert 0 <= float(waited[1]) < 60
    assert utilisation.summary == "Slots in use. in use: 25 % last, 25 % at most."
    assert states.summary == "Shards with heartbeats, by state. ready: 1 last, 1 at most."
    assert "4 started, 3 ended" in look(operator)


def test_what_shards_and_reasons_say_is_text(operator: Client, shard: Shard) -> None:
    Shard.objects.update(state=ShardState.SUSPECT, state_reason="<script>alert(1)</script>\x1b[31m")
    html = look(operator)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "\x1b" not in html
