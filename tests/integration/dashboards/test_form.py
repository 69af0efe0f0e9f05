"""The form that starts a job, and what it says of capabilities and of the wait."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from jobs.models import Job
from jobs.queue.capabilities import available_capabilities
from myctobot.tenants.models import Role, Tenant
from myctobot.tenants.secret_bindings import SecretPurpose
from myctobot.tenants.secrets import store_secret
from shards.models import Assignment, Pool, Shard
from tests.factories.control_plane import (
    age,
    attempts_of,
    bound_to,
    bound_to_repository,
    make_member,
    make_shard,
    make_tenant,
    running_job,
)
from tests.factories.forms import form

pytestmark = pytest.mark.django_db


BRANCH = {"repo_url": "https://example.com/u/r.git", "branch": "fix"}


class TestForm:
    def test_it_starts_the_job_that_the_api_would(self, browser: Client, tenant: Tenant, key: str) -> None:
        store_secret(tenant, "github", "ghp_1234567890", bound_to_repository())
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

    def test_when_it_starts_and_what_is_tried_again_reaches_the_job(self, browser: Client, key: str) -> None:
        tomorrow = (timezone.now() + timedelta(days=1)).replace(second=0, microsecond=0)
        bounds = {"queue_timeout_min": "90", "no_output_timeout_min": "2", "not_before": f"{tomorrow:%Y-%m-%dT%H:%M}"}
        retries = {"max_attempts": "4", "retry_on": ["agent", "timeout"]}
        sent = form(**bounds, **retries, concurrency_key=" nightly ", concurrency_limit="3")
        browser.post("/jobs/new/", sent)
        job = Job.objects.get()
        assert (job.queue_timeout_s, job.no_output_timeout_s) == (5400, 120)
        assert job.not_before == tomorrow
        assert (job.max_attempts, job.retry_on) == (4, ["agent", "timeout"])
        assert (job.concurrency_key, job.concurrency_limit) == ("nightly", 3)

    def test_empty_fields_set_no_limits(self, browser: Client, key: str, settings: Any) -> None:
        settings.QUEUE_TIMEOUT_S = settings.NO_OUTPUT_TIMEOUT_S = 100
        page = browser.get("/jobs/new/").content.decode()
        # Seconds that are usual here are shown as minutes, rounded up.
        assert re.search(r'name="queue_timeout_min" value="2"', page)
        browser.post("/jobs/new/", form(concurrency_limit="", not_before=""))
        job = Job.objects.get()
        assert (job.queue_timeout_s, job.no_output_timeout_s, job.not_before) == (None, None, None)
        assert (job.concurrency_key, job.retry_on) == ("", [])

    def test_the_fold_is_open_when_something_in_it_is_not_as_usual(self, browser: Client, key: str) -> None:
        closed, opened = (
            browser.post(
                "/jobs/new/", form(prompt="", timeout_min="60", max_turns="50", concurrency_limit="1", **more)
            ).content.decode()
            for more in ({"retry_on": ["infrastructure"]}, {"retry_on": ["infrastructure"], "concurrency_key": "x"})
        )
        assert '<details class="card" id="job-limits">' in closed
        assert '<details class="card" id="job-limits" open>' in opened

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
            ({"branch": "a"}, "id_branch", "Has no use without repo_url"),
            ({"repo_url": "https://example.com/u/r", "branch": "a..b"}, "id_branch", "branch name"),
            ({"type": "implement_ticket"}, "id_issue_key", "implement_ticket needs this"),
            ({"capabilities": []}, "capabilities", ""),
            ({"capabilities": ["teleport"]}, "capabilities", "teleport"),
            ({"timeout_min": "0"}, "id_timeout_min", "greater than or equal to 1"),
            ({"queue_timeout_min": "0"}, "id_queue_timeout_min", "greater than or equal to 1"),
            ({"no_output_timeout_min": "1441"}, "id_no_output_timeout_min", "less than or equal to 1440"),
            ({"not_before": "tomorrow"}, "id_not_before", "valid date/time"),
            ({"not_before": "2999-01-01T00:00"}, "id_not_before", "within 365 days"),
            ({"retry_on": ["weather"]}, "retry-on", "weather"),
            ({"max_attempts": "11"}, "id_max_attempts", "less than or equal to 10"),
            ({"concurrency_key": "k" * 301}, "id_concurrency_key", "300 characters"),
            ({"concurrency_key": "k", "concurrency_limit": "0"}, "id_concurrency_limit", "greater than or equal to 1"),
            ({"repo_token": "no-such"}, "id_repo_token", "valid choice"),
        ],
    )
    def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(
        self, browser: Client, key: str, changes: dict[str, Any], field: str, sentence: str
    ) -> None:
        answer = browser.post("/jobs/new/", form(additional_instructions="kept &amp; safe", **changes))
        page = answer.content.decode()
        assert answer.status_code == 400
        part = page[re.search(f'id="{field}[_-]error"', page).start() :]  # type: ignore[union-attr]  # None fails as well
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
        assert "has no shard that it can use" in browser.get("/jobs/new/").content.decode()


class TestProviderKey:
    """The form states which keys there are."""

    @pytest.fixture(autouse=True)
    def provider(self, settings: Any, key: str) -> None:
        settings.GATEWAY_UPSTREAM = "anthropic"

    def choices(self, browser: Client) -> list[tuple[str, str]]:
        choices = browser.get("/jobs/new/").context["form"].fields["anthropic_api_key"].choices
        return [(value, label) for value, label in choices]

    def test_without_any_it_says_that_no_job_can_start(self, browser: Client, tenant: Tenant) -> None:
        page = browser.get("/jobs/new/").content.decode()
        assert "No job can start yet" in page
        assert "An admin of the tenant can store one" in page
        assert self.choices(browser) == [("", "None")]
        admin = Client()
        admin.force_login(make_member(tenant, "root", Role.ADMIN))
        assert "No job can start yet" in (shown := admin.get("/jobs/new/").content.decode())
        assert '<a href="/secrets/">Store one</a>' in shown

    def test_the_only_one_is_chosen(self, browser: Client, tenant: Tenant) -> None:
        store_secret(tenant, "ours", "sk-ant-0123456789", bound_to(SecretPurpose.PROVIDER))
        assert self.choices(browser) == [("ours", "ours")]
        assert "No job can start" not in browser.get("/jobs/new/").content.decode()

    def test_of_several_the_user_chooses(self, browser: Client, tenant: Tenant) -> None:
        for name in ("one", "two"):
            store_secret(tenant, name, "sk-ant-0123456789", bound_to(SecretPurpose.PROVIDER))
        assert self.choices(browser) == [("", "Choose a key"), ("one", "one"), ("two", "two")]
        answer = browser.post("/jobs/new/", form())
        assert answer.status_code == 400
        page = answer.content.decode()
        part = page[page.index('id="id_anthropic_api_key_error"') :]
        assert "you may use one, two" in part[: part.index("</div>")]
        assert browser.post("/jobs/new/", form(anthropic_api_key="two")).status_code == 302
        assert Job.objects.get().named_secrets == {"anthropic_api_key": "two"}

    def test_scripts_need_none(self, browser: Client, settings: Any) -> None:
        settings.GATEWAY_UPSTREAM = "scripted"
        assert self.choices(browser) == [("", "None")]
        page = browser.get("/jobs/new/").content.decode()
        assert "scripts answer instead of a model" in page
        assert "No job can start" not in page


class TestEstimate:
    def line(self, browser: Client, *capabilities: str, priority: str = "normal") -> str:
        answer = browser.get("/jobs/estimate/", {"capabilities": capabilities, "priority": priority})
        assert answer.status_code == 200
        return re.sub(r"<[^>]+>", "", answer.content.decode()).strip()

    def test_it_says_when_and_why(self, browser: Client, tenant: Tenant, key: str) -> None:
        assert self.line(browser, "git") == "Would start immediately."
        done, runner = running_job(tenant, key)
        runner.finish()
        age(attempts_of(done)[0], "claimed_at", 300)
        for _ in range(2):
            running_job(tenant, key)
        assert self.line(browser, "git") == "Would start in about 5 min: The only healthy shard with git is busy."

    @pytest.mark.parametrize(
        ("hours", "said"),
        [
            (26, "Would start in about 26 h: The job starts at {at} UTC at the earliest."),
            (-1, "Would start immediately."),
        ],
    )
    def test_a_job_that_is_to_wait_waits(self, browser: Client, key: str, hours: float, said: str) -> None:
        at = timezone.now() + timedelta(hours=hours)
        answer = browser.get("/jobs/estimate/", {"capabilities": "git", "not_before": f"{at:%Y-%m-%dT%H:%M}"})
        text = re.sub(r"<[^>]+>", "", answer.content.decode()).strip()
        assert text == said.format(at=f"{at:%Y-%m-%d %H:%M}")

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ({"concurrency_key": "nightly"}, "Would wait: Another job with this concurrency key runs now."),
            ({"concurrency_key": "nightly", "concurrency_limit": "2"}, "Would start immediately."),
            ({"concurrency_key": "weekly"}, "Would start immediately."),
            ({"concurrency_key": "night\x00ly", "concurrency_limit": "x"}, "Would start immediately."),
            ({"concurrency_limit": "1"}, "Would start immediately."),
            (BRANCH, "Would wait: Another job that pushes to this branch runs now."),
            ({**BRANCH, "concurrency_limit": "2"}, "Would wait: Another job that pushes to this branch runs now."),
            ({**BRANCH, "concurrency_key": "weekly"}, "Would start immediately."),
        ],
    )
    def test_a_job_behind_another_waits(
        self, browser: Client, tenant: Tenant, key: str, query: dict[str, str], said: str
    ) -> None:
        Shard.objects.update(max_concurrent_jobs=4)
        running_job(tenant, key, concurrency_key="nightly")
        running_job(tenant, key, task={"type": "prompt", "prompt": "x", **BRANCH})
        running_job(make_tenant("other"), key, concurrency_key="weekly")
        answer = browser.get("/jobs/estimate/", {"capabilities": "git", **query})
        assert answer.content.decode().strip() == said

    def test_without_an_estimate_it_gives_the_reason(self, browser: Client, tenant: Tenant, key: str) -> None:
        Shard.objects.update(last_heartbeat_at=None)
        assert self.line(browser, "git").startswith("Would wait: No healthy shard with git: one ")

    def test_a_request_that_no_shard_can_run(self, browser: Client, key: str) -> None:
        make_shard("two", "playwright")
        said = self.line(browser, "git", "playwright")
        assert said == "Could not start: No single shard of this tenant has all of git and playwright."

    @pytest.mark.parametrize("query", ["", "priority=normal", "capabilities=%00", "capabilities=git&priority=urgent"])
    def test_where_there_is_nothing_to_say_it_says_nothing(self, browser: Client, key: str, query: str) -> None:
        answer = browser.get(f"/jobs/estimate/?{query}")
        assert (answer.status_code, answer.content.decode().strip()) == (200, "")


class TestOffers:
    def test_of_a_pool_only_to_those_assigned_to_it(self, tenant: Tenant) -> None:
        make_shard("shared", "git")
        make_shard("closed", "git", "browser", pool="premium")
        assert [offer.slug for offer in available_capabilities(tenant)] == ["git"]
        Assignment.objects.create(tenant=tenant, pool=Pool.objects.get())
        assert [(offer.slug, offer.shards) for offer in available_capabilities(tenant)] == [("browser", 1), ("git", 2)]
