"""The list, the form and the buttons, as somebody uses them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from jobs.dispatch import dispatch_round
from jobs.models import Job
from jobs.offers import offered_capabilities
from myctobot.dashboards import listing
from myctobot.tenants.models import Tenant
from myctobot.tenants.secrets import store_secret
from shards.models import Assignment, Pool
from tests.integration.jobs.support import (
    SECRETS,
    fresh,
    make_job,
    make_member,
    make_shard,
    running_job,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(tenant: Tenant) -> Client:
    browser = Client()
    browser.force_login(make_member(tenant, "ann"))
    return browser


def form(**changes: Any) -> dict[str, Any]:
    return {
        "type": "prompt", "prompt": "Fix it.", "capabilities": ["git", "filesystem"], "priority": "normal",
        "timeout_min": "5", "max_turns": "7", "idempotency_key": "once", **changes,
    }  # fmt: skip


def listed(answer: Any) -> list[str]:
    return re.findall(r'id="job-(job_\w+)"', answer.content.decode())


class TestForm:
    def test_it_starts_the_job_that_the_api_would(self, browser: Client, tenant: Tenant, key: str) -> None:
        store_secret(tenant, "github", "ghp_1234567890")
        task = {
            "repo_url": "https://example.com/u/r.git",
            "base_branch": "main",
            "branch": "fix/it",
            "issue_key": "P-1",
        }
        sent = form(**task, type="implement_ticket", repo_token="github", additional_instructions="Be\r\nbrief.")
        answer = browser.post("/jobs/new/", sent)
        job = Job.objects.get()
        assert answer.headers["Location"] == f"/jobs/{job.public_id}/"
        assert job.task == {"type": "implement_ticket", "prompt": "Fix it.", **task}
        assert (job.capabilities, job.timeout_s, job.max_turns) == (["filesystem", "git"], 300, 7)
        assert job.context == {"additional_instructions": "Be\nbrief."}
        assert job.named_secrets == {"repo_token": "github"}
        assert job.created_by is not None
        assert job.created_by.username == "ann"

    def test_a_double_click_starts_one(self, browser: Client, key: str) -> None:
        first, second = (browser.post("/jobs/new/", form()).headers["Location"] for _ in range(2))
        assert first == second
        assert Job.objects.count() == 1

    def test_one_that_was_changed_since_starts_another_when_it_is_sent_again(self, browser: Client, key: str) -> None:
        browser.post("/jobs/new/", form())
        changed = form(prompt="And this.", branch="", additional_instructions="kept")
        answer = browser.post("/jobs/new/", changed)
        page = answer.content.decode()
        assert answer.status_code == 400
        assert "has started a job before" in page
        assert "And this." in page
        assert page.count(" checked") == 3
        key_now = re.search(r'name="idempotency_key" value="([^"]+)"', page)
        assert key_now
        assert browser.post("/jobs/new/", {**changed, "idempotency_key": key_now[1]}).status_code == 302
        assert [job.task["prompt"] for job in Job.objects.order_by("pk")] == ["Fix it.", "And this."]

    @pytest.mark.parametrize(
        ("changes", "field", "sentence"),
        [
            ({"prompt": "  "}, "id_prompt", "white space"),
            ({"prompt": ""}, "id_prompt", "required"),
            ({"repo_url": "ext::sh -c id"}, "id_repo_url", "The URL"),
            ({"repo_url": "https://127.0.0.1/x"}, "id_repo_url", "private address"),
            ({"branch": "a"}, "id_branch", "Means nothing without repo_url"),
            ({"repo_url": "https://example.com/u/r", "branch": "a..b"}, "id_branch", "branch name"),
            ({"type": "implement_ticket"}, "id_issue_key", "implement_ticket needs this"),
            ({"capabilities": []}, "capabilities", ""),
            ({"capabilities": ["teleport"]}, "capabilities", "teleport"),
            ({"timeout_min": "0"}, "id_timeout_min", "greater than or equal to 1"),
            ({"repo_token": "no-such"}, "id_repo_token", "valid choice"),
        ],
    )
    def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(
        self, browser: Client, key: str, changes: dict[str, Any], field: str, sentence: str
    ) -> None:
        answer = browser.post("/jobs/new/", form(additional_instructions="kept &amp; safe", **changes))
        page = answer.content.decode()
        assert answer.status_code == 400
        part = page[page.index(f'id="{field}_error"' if field != "capabilities" else 'id="capabilities-error"') :]
        assert sentence in part[: part.index("</div>")]
        assert "kept &amp;amp; safe" in page
        assert Job.objects.count() == 0

    def test_a_secret_in_the_prompt_is_refused(self, browser: Client, tenant: Tenant, key: str) -> None:
        answer = browser.post("/jobs/new/", form(idempotency_key=""))
        assert answer.status_code == 400

    def test_a_capability_has_a_box_and_says_what_it_is_for(self, browser: Client, key: str) -> None:
        make_shard("two", "git", "playwright", heard=False)
        page = browser.get("/jobs/new/").content.decode()
        assert "Drives a real browser" in page
        assert "0 of 1 shard ready." in page
        assert "1 of 2 shards ready." in page

    def test_without_shards_it_says_so(self, browser: Client, db: None) -> None:
        assert "No shard is there" in browser.get("/jobs/new/").content.decode()


class TestOffers:
    def test_of_a_pool_only_to_those_assigned_to_it(self, tenant: Tenant) -> None:
        make_shard("shared", "git")
        make_shard("closed", "git", "browser", pool="premium")
        assert [offer.slug for offer in offered_capabilities(tenant)] == ["git"]
        Assignment.objects.create(tenant=tenant, pool=Pool.objects.get())
        assert [(offer.slug, offer.shards) for offer in offered_capabilities(tenant)] == [("browser", 1), ("git", 2)]


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

    def test_it_asks_the_database_as_often_for_many(
        self, browser: Client, tenant: Tenant, key: str, django_assert_max_num_queries: Any
    ) -> None:
        for _ in range(20):
            make_job(tenant)
        dispatch_round()
        with django_assert_max_num_queries(16):
            browser.get("/jobs/")


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
        assert "12\u202f345 read" in live
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

    def test_a_retry_is_a_new_job(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish()
        answer = browser.post(f"/jobs/{job.public_id}/retry/")
        again = Job.objects.latest("pk")
        assert answer.headers["Location"] == f"/jobs/{again.public_id}/"
        assert again.retry_of == job
        assert again.public_id in browser.get(f"/jobs/{job.public_id}/").content.decode()

    def test_a_job_that_goes_on_is_not_retried(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        assert browser.post(f"/jobs/{job.public_id}/retry/").status_code == 409
        assert Job.objects.count() == 1

    def test_secrets_of_its_own_are_asked_for_again(self, browser: Client, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key, secrets=SECRETS)
        runner.finish()
        store_secret(tenant, "stored", "sk-ant-0123456789")
        where = f"/jobs/{job.public_id}/retry/"
        assert "Repository" in browser.get(where).content.decode()
        assert browser.post(where).status_code == 200
        half = {"secrets": "1", "repo_token": "ghp_typed-again-123", "anthropic_api_key_stored": "stored"}
        refused = browser.post(where, half)
        assert refused.status_code == 400
        assert "Choose a stored secret, or type the value." in refused.content.decode()
        assert "ghp_typed-again-123" not in refused.content.decode()
        done = browser.post(where, {**half, "jira_token": "jira-typed-again"})
        assert done.status_code == 302
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
