"""Kept work on the page of a job, with its button."""

from __future__ import annotations

import pytest
from django.test import Client

from jobs.models import Job, KeptWork
from myctobot.tenants.models import Tenant
from tests.factories.control_plane import REPO_TOKEN, make_member, running_job
from tests.factories.kept_work import job_with_work
from tests.factories.personas import Persona

pytestmark = pytest.mark.django_db


def page(browser: Client, job: Job) -> str:
    return browser.get(f"/jobs/{job.public_id}/").content.decode()


def test_the_page_offers_the_files_and_the_push(browser: Client, tenant: Tenant, key: str) -> None:
    job = job_with_work(tenant, key)
    shown = page(browser, job)
    for name in ("patch", "bundle"):
        assert f'href="/api/v1/jobs/{job.public_id}/{name}" download' in shown
    assert 'id="push-button"' in shown
    answer = browser.post(f"/jobs/{job.public_id}/push/")
    pushing = Job.objects.get(is_push=True)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/jobs/{pushing.public_id}/")
    assert "This job pushes work that was kept" in page(browser, pushing)


def test_unfinished_work_says_so(browser: Client, tenant: Tenant, key: str) -> None:
    assert "The agent did not finish." in page(browser, job_with_work(tenant, key, ready=False))


def test_a_token_of_the_request_is_asked_for_again(browser: Client, tenant: Tenant, key: str) -> None:
    job = job_with_work(tenant, key, secrets={"repo_token": REPO_TOKEN, "anthropic_api_key": "sk-ant-0123456789"})
    assert f'href="/jobs/{job.public_id}/push/"' in page(browser, job)
    asked = browser.post(f"/jobs/{job.public_id}/push/").content.decode()
    assert "Repository token" in asked
    assert "Model provider key" not in asked
    answer = browser.post(f"/jobs/{job.public_id}/push/", {"secrets": "1", "repo_token": ""})
    assert answer.status_code == 400
    answer = browser.post(f"/jobs/{job.public_id}/push/", {"secrets": "1", "repo_token": REPO_TOKEN})
    assert answer.status_code == 302
    assert REPO_TOKEN not in page(browser, Job.objects.get(is_push=True))


def test_a_click_twice_is_one_job(browser: Client, tenant: Tenant, key: str) -> None:
    job = job_with_work(tenant, key)
    for _ in range(2):
        browser.post(f"/jobs/{job.public_id}/push/", {"idempotency_key": "once"})
    assert Job.objects.filter(is_push=True).count() == 1


def test_work_that_has_gone_or_a_running_job_is_an_error_on_the_page(browser: Client, tenant: Tenant, key: str) -> None:
    job = job_with_work(tenant, key)
    KeptWork.objects.all().delete()
    assert browser.post(f"/jobs/{job.public_id}/push/").status_code == 404
    assert 'id="push-button"' not in page(browser, job)
    running, _ = running_job(tenant, key)
    assert browser.post(f"/jobs/{running.public_id}/push/").status_code == 409


def test_viewers_and_outsiders_push_nothing(tenant: Tenant, key: str, outsider: Persona) -> None:
    job = job_with_work(tenant, key)
    viewer = Client()
    viewer.force_login(make_member(tenant, "vera", "viewer"))
    assert 'id="push-button"' not in page(viewer, job)
    assert viewer.post(f"/jobs/{job.public_id}/push/").status_code == 403
    assert outsider.browser().post(f"/jobs/{job.public_id}/push/").status_code == 404
    assert not Job.objects.filter(is_push=True).exists()


def test_the_branch_of_unfinished_work_is_shown(browser: Client, tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key, on_failure="push_wip")
    branch = f"myctobot/wip/{job.public_id}-1"
    error = {"code": "timeout", "message": "Too long.", "retryable": False}
    runner.finish("failed", error=error, result={"wip_branch": branch, "wip_head": "a" * 40})
    assert f"The unfinished work is on the branch <code>{branch}</code>" in page(browser, job)
