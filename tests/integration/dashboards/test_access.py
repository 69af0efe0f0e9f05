"""Access to each page and button of the console for every kind of user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs.models import Job
from myctobot.tenants.models import Member, Role, Tenant
from shards.models import Shard
from tests.factories.control_plane import Runner, fresh, make_job, make_member, make_tenant, running_job
from tests.factories.personas import Persona

pytestmark = pytest.mark.django_db

Call = Callable[[Client, Job], Any]
FORM = {
    "type": "prompt", "prompt": "Fix it.", "capabilities": ["git"], "priority": "normal", "timeout_min": "5",
    "max_turns": "5", "max_attempts": "2", "idempotency_key": "abc",
}  # fmt: skip
READS: dict[str, Call] = {
    "list": lambda browser, job: browser.get("/jobs/"),
    "job": lambda browser, job: browser.get(f"/jobs/{job.public_id}/"),
    "header": lambda browser, job: browser.get(f"/jobs/{job.public_id}/header/"),
}
WRITES: dict[str, Call] = {
    "form": lambda browser, job: browser.get("/jobs/new/"),
    "start": lambda browser, job: browser.post("/jobs/new/", FORM),
    "estimate": lambda browser, job: browser.get("/jobs/estimate/?capabilities=git&priority=normal"),
    "cancel": lambda browser, job: browser.post(f"/jobs/{job.public_id}/cancel/"),
    "retry": lambda browser, job: browser.post(f"/jobs/{job.public_id}/retry/"),
    "retry form": lambda browser, job: browser.get(f"/jobs/{job.public_id}/retry/"),
    "push form": lambda browser, job: browser.get(f"/jobs/{job.public_id}/push/"),
}
EVERY = {**READS, **WRITES}
OF_ONE_JOB = {name: call for name, call in EVERY.items() if name not in ("list", "form", "start", "estimate")}
CHANGES = {name: WRITES[name] for name in ("start", "cancel", "retry")}


def table(calls: dict[str, Call]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("call", calls.values(), ids=calls.keys())


def browser_of(user: User | None, **options: Any) -> Client:
    browser = Client(**options)
    if user:
        browser.force_login(user)
    return browser


@pytest.fixture
def job(tenant: Tenant, shard: Shard) -> Job:
    return make_job(tenant)


@pytest.fixture
def ended(tenant: Tenant, key: str) -> Job:
    job, runner = running_job(tenant, key)
    runner.finish()
    return job


@table(EVERY)
@pytest.mark.parametrize("who", ["owner", "teammate"])
def test_members_of_the_tenant_are_let_in(call: Call, who: str, ended: Job, request: pytest.FixtureRequest) -> None:
    person: Persona = request.getfixturevalue(who)
    answer = call(person.browser(), ended)
    # A cancel that comes too late is answered by the page that says so.
    assert answer.status_code in (200, 302, 409)


@table(READS)
def test_a_viewer_looks(call: Call, tenant: Tenant, job: Job) -> None:
    assert call(browser_of(make_member(tenant, "vic", Role.VIEWER)), job).status_code == 200


@table(WRITES)
def test_and_changes_nothing(call: Call, tenant: Tenant, job: Job) -> None:
    answer = call(browser_of(make_member(tenant, "vic", Role.VIEWER)), job)
    assert answer.status_code == 403
    assert "read-only access" in answer.content.decode()
    assert [(one.pk, one.status) for one in Job.objects.all()] == [(job.pk, "queued")]


def test_a_viewer_is_offered_no_button(tenant: Tenant, job: Job, ended: Job) -> None:
    browser = browser_of(make_member(tenant, "vic", Role.VIEWER))
    for one in (job, ended):
        page = browser.get(f"/jobs/{one.public_id}/").content.decode()
        assert "cancel-button" not in page
        assert "retry-button" not in page
    assert "/jobs/new/" not in browser.get("/jobs/").content.decode()


@table(OF_ONE_JOB)
def test_an_outsider_finds_nothing_before_and_after_the_end(
    call: Call, outsider: Persona, job: Job, ended: Job
) -> None:
    browser = outsider.browser()
    for one in (job, ended):
        answer = call(browser, one)
        assert answer.status_code == 404
        assert one.task["prompt"] not in answer.content.decode()
    assert fresh(job).status == "queued"
    assert Job.objects.count() == 2


def test_an_outsider_finds_nothing_in_the_list(outsider: Persona, job: Job) -> None:
    page = outsider.browser().get("/jobs/").content.decode()
    assert job.public_id not in page


@table(EVERY)
def test_an_anonymous_visitor_is_sent_to_the_login_and_back(call: Call, job: Job) -> None:
    answer = call(browser_of(None), job)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/login/?next=/jobs/")
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("referrer", "page"),
    [
        ("http://testserver/jobs/job_x/?a=1", "/jobs/job_x/?a=1"),
        ("", "/jobs/"),
        ("https://evil.example/jobs/job_x/", "/jobs/"),
        ("http://testserver//evil.example/", "/jobs/"),
    ],
)
def test_after_a_button_the_login_leads_back_to_its_page(referrer: str, page: str, job: Job) -> None:
    answer = Client().post(f"/jobs/{job.public_id}/cancel/", headers={"Referer": referrer})
    assert parse_qs(urlsplit(answer.headers["Location"]).query) == {"next": [page]}


def test_a_part_of_a_page_sends_the_whole_window(job: Job) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "https://example.com/jobs/?status=live&q=a%26b#row"}
    answer = browser_of(None).get("/jobs/?status=live", headers=headers)
    assert answer.status_code == 401
    login = urlsplit(answer.headers["HX-Redirect"])
    assert login.path == "/login/"
    assert parse_qs(login.query) == {"next": ["/jobs/?status=live&q=a%26b"]}


@pytest.mark.parametrize("url", ["", "http://[", "http://evil.example//evil.example"])
def test_a_part_of_a_page_that_says_nonsense_about_itself_leads_nowhere_else(url: str) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": url}
    login = browser_of(None).get("/jobs/", headers=headers).headers["HX-Redirect"]
    User.objects.create_user("ann", password="correct horse")
    where = parse_qs(urlsplit(login).query, keep_blank_values=True)["next"][0]
    answer = Client().post(login, {"username": "ann", "password": "correct horse", "next": where})
    assert answer.headers["Location"] == "/jobs/"


@table(EVERY)
def test_a_user_without_a_tenant_gets_an_explanation(call: Call, job: Job) -> None:
    answer = call(browser_of(User.objects.create_user("nobody")), job)
    assert answer.status_code == 403
    assert "belongs to no tenant" in answer.content.decode()


@table(CHANGES)
def test_another_page_can_press_no_button(call: Call, tenant: Tenant, job: Job) -> None:
    browser = browser_of(make_member(tenant, "ann"), enforce_csrf_checks=True)
    assert call(browser, job).status_code == 403
    assert [one.status for one in Job.objects.all()] == ["queued"]


@pytest.mark.parametrize("path", ["/jobs/x/cancel/", "/logout/", "/tenant/"])
def test_a_link_changes_nothing(path: str, tenant: Tenant) -> None:
    assert browser_of(make_member(tenant, "ann")).get(path).status_code == 405


@table({**READS, "form": WRITES["form"], "login": lambda browser, job: Client().get("/login/")})
def test_a_page_keeps_to_itself(call: Call, tenant: Tenant, job: Job) -> None:
    answer = call(browser_of(make_member(tenant, "ann")), job)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert "unsafe" not in str(policy)
    assert answer.headers["Cache-Control"] == "private, no-store"
    body = answer.content.decode()
    assert " style=" not in body
    assert "<script>" not in body
    assert " onclick" not in body


class TestLogin:
    @pytest.fixture
    def user(self, tenant: Tenant) -> User:
        user = make_member(tenant, "ann")
        user.set_password("correct horse")
        user.save()
        return user

    def test_a_member_who_is_no_staff(self, user: User) -> None:
        browser = Client()
        answer = browser.post("/login/", {"username": "ann", "password": "correct horse", "next": "/jobs/new/"})
        assert (answer.status_code, answer.headers["Location"]) == (302, "/jobs/new/")
        assert browser.get("/jobs/").status_code == 200
        assert browser.post("/logout/").status_code == 302
        assert browser.get("/jobs/").status_code == 302

    @pytest.mark.parametrize("where", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
    def test_it_redirects_only_within_the_site(self, user: User, where: str) -> None:
        answer = Client().post("/login/", {"username": "ann", "password": "correct horse", "next": where})
        assert answer.headers["Location"] == "/jobs/"

    def test_a_wrong_password(self, user: User) -> None:
        answer = Client().post("/login/", {"username": "ann", "password": "wrong"})
        assert answer.status_code == 200
        assert 'role="alert"' in answer.content.decode()

    def test_the_front_page_leads_to_the_jobs(self) -> None:
        assert Client().get("/").headers["Location"] == "/jobs/"


class TestTenants:
    def test_a_user_of_two_goes_from_one_to_the_other(self, tenant: Tenant, job: Job) -> None:
        user = make_member(make_tenant("other"), "ann")
        Member.objects.create(tenant=tenant, user=user)
        browser = browser_of(user)
        assert job.public_id not in browser.get("/jobs/").content.decode()
        browser.post("/tenant/", {"tenant": "acme"})
        assert job.public_id in browser.get("/jobs/").content.decode()
        assert browser.get("/api/v1/jobs").json()["results"][0]["id"] == job.public_id

    @pytest.mark.parametrize("slug", ["secret", "", "no-such"])
    def test_one_that_is_not_theirs_changes_nothing(self, tenant: Tenant, slug: str) -> None:
        make_tenant("secret")
        browser = browser_of(make_member(tenant, "ann"))
        browser.post("/tenant/", {"tenant": slug})
        assert "tenant" not in browser.session

    def test_an_invalid_choice_of_tenant_is_ignored(self, tenant: Tenant, job: Job) -> None:
        other = make_tenant("other")
        user = make_member(tenant, "ann")
        membership = Member.objects.create(tenant=other, user=user)
        browser = browser_of(user)
        browser.post("/tenant/", {"tenant": "other"})
        membership.delete()
        assert job.public_id in browser.get("/jobs/").content.decode()


def test_an_agents_words_act_on_no_reader(tenant: Tenant, key: str) -> None:
    hostile = "a\x1b[31mred\u202egpj.exe\x07"
    task = {"type": "prompt", "prompt": hostile, "repo_url": "https://example.com/u/r.git"}
    job, runner = running_job(tenant, key, task=task, context={"additional_instructions": hostile})
    result = {"summary": hostile, "note": hostile, "branch": hostile, "head": hostile}
    error = {"code": "agent_failed", "message": hostile, "retryable": False}
    runner.finish("failed", result=result, error=error)
    browser = browser_of(make_member(tenant, "ann"))
    for path, shown in {"/jobs/": 2, f"/jobs/{job.public_id}/": 8, f"/jobs/{job.public_id}/header/": 5}.items():
        page = browser.get(path).content.decode()
        assert not set(page) & {"\x1b", "\u202e", "\x07"}
        assert page.count("ared\ufffdgpj.exe\u2407") >= shown, path


def test_an_agents_words_are_no_markup(tenant: Tenant, key: str) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    task = {"type": "prompt", "prompt": hostile, "repo_url": "https://example.com/u/r.git", "branch": "b<i>"}
    job, runner = running_job(tenant, key, task=task, context={"additional_instructions": hostile})
    assert isinstance(runner, Runner)
    runner.finish("failed", error={"code": "agent_failed", "message": hostile, "retryable": False})
    browser = browser_of(make_member(tenant, "ann"))
    for path in ("/jobs/", f"/jobs/{job.public_id}/", f"/jobs/{job.public_id}/header/"):
        page = browser.get(path).content.decode()
        assert "&lt;script&gt;" in page
        assert "<script>alert" not in page
        assert "<img src=x" not in page
