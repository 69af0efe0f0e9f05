"""List of jobs, and a job's page with its buttons."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.staticfiles.finders import find
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.dispatch.round import dispatch_round
from jobs.lifecycle.reaper import recover
from jobs.models import Job
from myctobot.contract.jobs import JobStatus
from myctobot.dashboards import listing
from myctobot.dashboards.templatetags.console import tab_icon
from myctobot.tenants.models import Tenant
from myctobot.tenants.secret_bindings import SecretPurpose
from myctobot.tenants.secrets import store_secret
from tests.factories.control_plane import (
    SECRETS,
    Runner,
    age,
    attempts_of,
    bound_to,
    bound_to_repository,
    end_pause,
    fresh,
    make_job,
    number_of,
    running_job,
)
from tests.factories.forms import form
from tests.factories.personas import Persona

pytestmark = pytest.mark.django_db


def listed(answer: Any) -> list[str]:
    return re.findall(r'id="job-(job_\w+)"', answer.content.decode())


class TestList:
    def test_pages_follow_each_other_and_new_jobs_shift_nothing(
        self, browser: Client, tenant: Tenant, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing, "PAGE", 3)
        jobs = [make_job(tenant).public_id for _ in range(8)][::-1]
        first = browser.get("/jobs/")
        assert listed(first) == jobs[:3]
        assert "Newer" not in first.content.decode()
        make_job(tenant)
        second = browser.get(f"/jobs/?before={jobs[2]}")
        assert listed(second) == jobs[3:6]
        last = browser.get(f"/jobs/?before={jobs[5]}")
        assert listed(last) == jobs[6:]
        assert "Older" not in last.content.decode()
        assert listed(browser.get(f"/jobs/?after={jobs[6]}")) == jobs[3:6]

    @pytest.mark.parametrize("query", ["before=nonsense", "after=%00", "status=nonsense", "q=%00"])
    def test_a_query_that_means_nothing_shows_all(self, browser: Client, tenant: Tenant, key: str, query: str) -> None:
        job = make_job(tenant)
        assert listed(browser.get(f"/jobs/?{query}")) == [job.public_id]

    def test_filters(self, browser: Client, tenant: Tenant, key: str) -> None:
        done, runner = running_job(tenant, key)
        runner.finish()
        task = {
            "type": "implement_ticket",
            "prompt": "x",
            "issue_key": "ABC-7",
            "repo_url": "https://example.com/a/tool.git",
        }
        ticket = make_job(tenant, task=task)
        browser.post("/jobs/new/", form(prompt="from the browser"))
        mine = Job.objects.latest("pk")
        for query, expected in {
            "status=completed": [done],
            "status=queued": [mine, ticket],
            "status=live": [mine, ticket],
            "q=abc-7": [ticket],
            "q=tool": [ticket],
            f"q={done.public_id}": [done],
            "q=BROWSER": [mine],
            "mine=1": [mine],
            "mine=1&status=completed": [],
        }.items():
            assert listed(browser.get(f"/jobs/?{query}")) == [job.public_id for job in expected], query

    def test_it_refreshes_itself_while_anything_is_live(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        page = browser.get("/jobs/?q=zzz&status=live")
        assert 'hx-get="/jobs/"' in browser.get("/jobs/").content.decode()
        assert 'hx-get="/jobs/?' not in page.content.decode()
        part = browser.get("/jobs/", headers={"HX-Request": "true"}).content.decode()
        assert part.startswith('<div id="jobs"')
        assert job.public_id in part
        runner.finish()
        assert "hx-get" not in browser.get("/jobs/", headers={"HX-Request": "true"}).content.decode()

    def test_it_asks_the_database_as_often_for_many(self, browser: Client, tenant: Tenant, key: str) -> None:
        counts = []
        for more in (2, 8):
            for number in range(more):
                make_job(tenant)
                # Of these, one runs and the others are behind it.
                make_job(tenant, concurrency_key=f"key {number % 3}")
            dispatch_round()
            with CaptureQueriesContext(connection) as queries:
                browser.get("/jobs/")
            counts.append(len(queries))
        assert counts[0] == counts[1] <= 22


class TestOneJob:
    def test_a_waiting_one_says_why_and_a_cancel_ends_it(self, browser: Client, tenant: Tenant, key: str) -> None:
        for _ in range(2):
            running_job(tenant, key)
        job = make_job(tenant)
        dispatch_round()
        page = browser.get(f"/jobs/{job.public_id}/").content.decode()
        assert "Why is it waiting?" in page
        assert fresh(job).waiting_reason in page
        browser.post(f"/jobs/{job.public_id}/cancel/")
        assert fresh(job).status == "cancelled"

    def test_the_header_refreshes_itself_until_the_end(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        header = f"/jobs/{job.public_id}/header/"
        usage = {"input_tokens": 12345, "output_tokens": 67, "cost_usd": 0.5, "turns": 3}
        runner.events(events=[{"seq": 1, "at": "2030", "kind": "agent.usage", "data": usage}], first=1, phase="agent")
        live = browser.get(header).content.decode()
        assert "hx-get" in live
        assert "12\u202f345 input" in live
        assert "$0.50" in live
        assert "agent" in live
        runner.finish(
            final_seq=1, result={"branch": "b", "head": "f" * 40, "commits": 1, "files": 2, "summary": "Did it."}
        )
        after = browser.get(header).content.decode()
        assert "hx-get" not in after
        assert "Did it." in after
        assert "1 commit, 2 files" in after

    def test_a_cancel_that_comes_too_late_says_how_it_ended(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish()
        answer = browser.post(f"/jobs/{job.public_id}/cancel/")
        assert answer.status_code == 409
        assert "has completed already" in answer.content.decode()

    def test_two_cancels_are_one(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        asked = []
        for _ in range(2):
            assert browser.post(f"/jobs/{job.public_id}/cancel/").status_code == 302
            asked.append(fresh(job).cancel_requested_at)
        assert asked[0] == asked[1] is not None
        assert "cancel-button" not in browser.get(f"/jobs/{job.public_id}/").content.decode()

    def test_a_retry_is_a_new_job(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish()
        answer = browser.post(f"/jobs/{job.public_id}/retry/")
        again = Job.objects.latest("pk")
        assert answer.headers["Location"] == f"/jobs/{again.public_id}/"
        assert again.retry_of == job
        assert again.public_id in browser.get(f"/jobs/{job.public_id}/").content.decode()

    def test_a_retry_can_be_edited(self, browser: Client, tenant: Tenant, key: str) -> None:
        store_secret(tenant, "for-git", "ghp_1234567890", bound_to_repository())
        task = {"type": "prompt", "prompt": "Fix <it>.", "repo_url": "https://example.com/u/r.git", "branch": "fix"}
        job, runner = running_job(
            tenant,
            key,
            task=task,
            context={"additional_instructions": "Be brief.", "jira_cloud_id": "cloud"},
            callback_url="https://hooks.example.com/x",
            secrets={"repo_token": {"secret": "for-git"}, "jira_token": SECRETS["jira_token"]},
            timeout_s=90,
        )
        runner.finish()
        page = browser.get(f"/jobs/{job.public_id}/").content.decode()
        where = f"/jobs/new/?retry_of={job.public_id}"
        assert f'href="{where}"' in page
        shown = browser.get(where)
        said = shown.content.decode()
        assert "Fix &lt;it&gt;." in said
        assert "deleted when it ended: jira_token" in said
        fields = {bound.name: bound.value() for bound in shown.context["form"]}
        assert (fields["repo_token"], fields["branch"], fields["timeout_min"]) == ("for-git", "fix", 2)
        assert (fields["retry_on"], fields["concurrency_key"]) == (job.retry_on, "")
        sent = {name: value for name, value in fields.items() if value is not None}
        answer = browser.post("/jobs/new/", {**sent, "prompt": "Fix it well."})
        again = Job.objects.latest("pk")
        assert answer.headers["Location"] == f"/jobs/{again.public_id}/"
        assert again.retry_of == job
        assert again.task == {**task, "prompt": "Fix it well."}
        assert again.context == job.context
        assert (again.callback_url, again.named_secrets) == (job.callback_url, {"repo_token": "for-git"})
        assert (again.capabilities, again.priority, again.timeout_s) == (job.capabilities, job.priority, 120)

    def test_only_a_finished_job_of_the_tenant_can_be_edited(
        self, browser: Client, tenant: Tenant, key: str, outsider: Persona
    ) -> None:
        job, runner = running_job(tenant, key)
        where = f"/jobs/new/?retry_of={job.public_id}"
        assert browser.get(where).headers["Location"] == f"/jobs/{job.public_id}/"
        runner.finish()
        assert browser.get(where).status_code == 200
        assert outsider.browser().get(where).status_code == 404
        assert outsider.browser().post("/jobs/new/", form(retry_of=job.public_id)).status_code == 404
        assert Job.objects.count() == 1

    def test_the_tab_shows_the_state(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key, task={"type": "prompt", "prompt": "Fix <it>."})
        page = browser.get(f"/jobs/{job.public_id}/").content.decode()
        assert "<title>▶ Fix &lt;it&gt;. · MyCTOBot</title>" in page
        assert 'id="icon" href="/static/dashboards/icon-running.svg"' in page
        runner.finish()
        header = browser.get(f"/jobs/{job.public_id}/header/").content.decode()
        assert 'data-title="✓ Fix &lt;it&gt;. · MyCTOBot"' in header
        assert 'data-icon="/static/dashboards/icon-completed.svg"' in header

    @pytest.mark.parametrize("status", list(JobStatus))
    def test_each_state_has_an_icon(self, status: JobStatus) -> None:
        assert find(tab_icon(Job(status=status.value)))

    @pytest.mark.parametrize(
        ("repo_url", "address"),
        [
            ("https://github.com/u/r.git", "https://github.com/u/r"),
            ("https://example.com/u/r.git", ""),
            ("https://user:ghp_canary@github.com/u/r", "https://github.com/u/r"),
        ],
    )
    def test_branch_and_commit_are_links_for_known_hosts(
        self, browser: Client, tenant: Tenant, key: str, repo_url: str, address: str
    ) -> None:
        job, runner = running_job(tenant, key, task={"type": "prompt", "prompt": "x", "repo_url": repo_url})
        runner.finish()
        head = "1f6f2d68b7" * 4
        result = {"branch": "fix/it", "head": head, "commits": 1, "files": 1, "insertions": 1, "deletions": 0}
        Job.objects.filter(pk=job.pk).update(result=result)
        header = browser.get(f"/jobs/{job.public_id}/header/").content.decode()
        found = re.findall(r'<a href="(https:[^"]+)" rel="noopener noreferrer"><code>', header)
        assert found == ([f"{address}/tree/fix/it", f"{address}/commit/{head}"] if address else [])
        assert "javascript:" not in header

    def test_a_double_click_retries_once(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish()
        page = browser.get(f"/jobs/{job.public_id}/").content.decode()
        sent = {"idempotency_key": re.findall(r'name="idempotency_key" value="([^"]+)"', page)[0]}
        first, second = (browser.post(f"/jobs/{job.public_id}/retry/", sent).headers["Location"] for _ in range(2))
        assert first == second
        assert job.retries.count() == 1

    def test_a_retry_that_the_tenant_has_no_room_for_says_so(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish()
        Tenant.objects.update(max_waiting_jobs=0)
        answer = browser.post(f"/jobs/{job.public_id}/retry/")
        assert answer.status_code == 429
        assert "which is its maximum" in answer.content.decode()

    def test_a_job_that_goes_on_is_not_retried(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        assert browser.post(f"/jobs/{job.public_id}/retry/").status_code == 409
        assert Job.objects.count() == 1

    def test_secrets_of_its_own_are_asked_for_again(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key, secrets=SECRETS)
        runner.finish()
        store_secret(tenant, "stored", "sk-ant-0123456789", bound_to(SecretPurpose.PROVIDER))
        where = f"/jobs/{job.public_id}/retry/"
        assert "Repository" in browser.get(where).content.decode()
        assert browser.post(where).status_code == 200
        half = {"secrets": "1", "repo_token": "ghp_typed-again-123", "anthropic_api_key_stored": "stored"}
        refused = browser.post(where, half)
        assert refused.status_code == 400
        assert "Choose a stored secret or enter the value." in refused.content.decode()
        assert "ghp_typed-again-123" not in refused.content.decode()
        whole = {**half, "jira_token": "jira-typed-again", "idempotency_key": "once"}
        done, twice = (browser.post(where, whole) for _ in range(2))
        assert done.status_code == 302
        assert done.headers["Location"] == twice.headers["Location"]
        changed = browser.post(where, {**whole, "jira_token": "jira-another-one"})
        assert "has started a job before" in changed.content.decode()
        assert 'value="once"' not in changed.content.decode()
        again = Job.objects.latest("pk")
        assert again.retry_of == job
        assert again.named_secrets == {"anthropic_api_key": "stored"}

    def test_a_secret_that_is_none_is_refused_at_its_field(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key, secrets={"repo_token": "ghp_1234567890"})
        runner.finish()
        answer = browser.post(f"/jobs/{job.public_id}/retry/", {"secrets": "1", "repo_token": "short"})
        assert answer.status_code == 400
        assert "Must have 8 to" in answer.content.decode()
        assert Job.objects.count() == 1


class TestWhatHoldsItUp:
    def header(self, browser: Client, job: Job) -> str:
        page = browser.get(f"/jobs/{job.public_id}/header/").content.decode()
        return " ".join(re.sub(r"<[^>]+>", " ", page).split())

    def test_a_parked_one_says_until_when_and_when_it_gives_up(self, browser: Client, tenant: Tenant, key: str) -> None:
        job = make_job(tenant, not_before=timezone.now() + timedelta(hours=2), queue_timeout_s=600)
        said = self.header(browser, job)
        assert f"The job starts at {job.ready_at:%Y-%m-%d %H:%M:%S} UTC at the earliest." in said
        assert f"Parked until {job.ready_at:%b %-d, %H:%M}" in said
        assert f"It fails if no shard takes it by {job.queue_deadline:%b %-d, %H:%M}" in said

    def test_one_behind_a_key_leads_to_who_has_it(self, browser: Client, tenant: Tenant, key: str) -> None:
        holder, _ = running_job(tenant, key, concurrency_key="<b>nightly</b>")
        job = make_job(tenant, concurrency_key="<b>nightly</b>")
        dispatch_round()
        page = browser.get(f"/jobs/{job.public_id}/").content.decode()
        assert f'<a href="/jobs/{holder.public_id}/">{holder.public_id}</a> now.' in page
        assert "&lt;b&gt;nightly&lt;/b&gt;" in page
        assert "<b>nightly" not in page

    def test_what_is_as_usual_is_not_said(self, browser: Client, tenant: Tenant, key: str) -> None:
        task = {"type": "prompt", "prompt": "x", "repo_url": "https://example.com/u/r.git", "branch": "fix"}
        job, _ = running_job(tenant, key, task=task)
        said = self.header(browser, job)
        for word in ("Concurrency key", "Attempt ", "Parked", "It fails if"):
            assert word not in said
        assert job.concurrency_key

    def test_a_retried_one_says_what_failed_and_which_attempt_it_is(
        self, browser: Client, tenant: Tenant, key: str
    ) -> None:
        job, runner = running_job(tenant, key, max_attempts=3)
        Job.objects.filter(pk=job.pk).update(created_at=F("created_at") - timedelta(hours=1))
        broken = {"code": "disk_full", "message": "No space is left", "retryable": True}
        assert runner.finish("failed", error=broken).status_code == 200
        said = self.header(browser, job)
        assert said.startswith("queued")
        assert "No space is left. The job is tried again in 5 s, attempt 2 of 3." in said
        assert re.search(r"failed on one, dispatched [^,]+, [\d:]+ , ran \d s: No space is left disk_full", said), said
        # It waits since its attempt ended, not since its submit an hour ago, and none of its processes runs now.
        assert re.search(r"Waiting for \d{1,2} s", said), said
        assert not re.search(r"^queued \d", said)
        end_pause(job)
        dispatch_round()
        Runner(key, job, number_of(job), token="u" * 40).claim()
        said = self.header(browser, job)
        assert said.startswith("running")
        assert "Attempt 2 of at most 3" in said
        assert "2 attempts running on one, dispatched" in said

    def test_an_unconfirmed_cancel_says_what_is_known_and_unknown(
        self, browser: Client, tenant: Tenant, key: str
    ) -> None:
        job, _ = running_job(tenant, key)
        browser.post(f"/jobs/{job.public_id}/cancel/")
        age(attempts_of(job)[0], "lease_until", 3600)
        recover()
        said = self.header(browser, job)
        assert said.startswith("cancelled not confirmed")
        assert "Known the attempt is fenced, so it can push nothing" in said
        assert "Unknown whether its processes still run. Check the shard." in said
        assert "not confirmed" in browser.get("/jobs/").content.decode()

    def test_the_request_says_how_it_is_bound(self, browser: Client, tenant: Tenant, key: str) -> None:
        job = make_job(tenant, no_output_timeout_s=120, queue_timeout_s=5400, retry_on=["agent", "timeout"])
        page = browser.get(f"/jobs/{job.public_id}/").content.decode()
        assert "maximum silence 2 min 0 s, maximum wait 1 h 30 min" in page
        assert "at most 2 attempts, another one when the agent fails or time is up." in page
        once = make_job(tenant, max_attempts=1)
        assert "one attempt." in browser.get(f"/jobs/{once.public_id}/").content.decode()
