"""Access to the console: members without staff rights, viewers, members of other tenants, ended sessions."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from myctobot.stack.plan import CHECKOUT
from tests.acceptance.client import Client
from tests.fixtures.chromium import Tab, new_tab
from tests.stacks import RunningStack, bare_environment

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]

PASSWORD = "only-for-this-test"
# One member of two tenants, one viewer, and one member of another tenant. None of them is staff.
PEOPLE = """
from django.contrib.auth.models import User
from myctobot.tenants.models import Member, Role, Tenant
default = Tenant.objects.get(slug="default")
other = Tenant.objects.create(slug="other", name="Another tenant")
memberships = {
    "ann": [(default, Role.MEMBER), (other, Role.MEMBER)],
    "vic": [(default, Role.VIEWER)],
    "eve": [(other, Role.MEMBER)],
}
for name, roles in memberships.items():
    user = User.objects.create_user(name, password="only-for-this-test")
    for tenant, role in roles:
        Member.objects.create(user=user, tenant=tenant, role=role)
"""
# A script of the page could request both streams like this.
STREAMS = """async (id) => {
    const code = await new Promise((done) => {
        const socket = new WebSocket(`ws://${location.host}/ws/jobs/${id}/?after=0`);
        socket.onmessage = ({ data }) => done(data);
        socket.onclose = ({ code }) => done(code);
    });
    const answer = await fetch(`/api/v1/jobs/${id}/stream`);
    return [code, answer.status];
}"""


@pytest.fixture(scope="module")
def people(stack: RunningStack) -> None:
    subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", PEOPLE],
        cwd=CHECKOUT,
        env=bare_environment(stack.home),
        check=True,
        timeout=60,
    )


@pytest.fixture
def log_in(browser: Browser, stack: RunningStack, people: None) -> Iterator[Callable[[str], Tab]]:
    contexts: list[BrowserContext] = []

    def open_console(name: str) -> Tab:
        context = browser.new_context(base_url=stack.web_url, viewport={"width": 1280, "height": 900})
        contexts.append(context)
        tab = Tab(context.new_page())
        tab.page.goto("/")
        submit_login(tab.page, name)
        tab.page.wait_for_url("**/jobs/")
        return tab

    yield open_console
    for context in contexts:
        context.close()


def submit_login(page: Page, name: str) -> None:
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


@contextmanager
def slow_job(member: Client, prompt: str) -> Iterator[str]:
    job_id = member.submit({"prompt": prompt})
    member.wait_event(job_id, "tool.call")
    try:
        yield job_id
    finally:
        member.cancel(job_id)
        member.wait_end(job_id)


def test_a_member_without_staff_rights_starts_a_job_and_sees_no_admin(
    log_in: Callable[[str], Tab], member: Client
) -> None:
    tab = log_in("ann")
    expect(tab.page.get_by_role("link", name="Admin")).to_have_count(0)
    tab.page.goto("/jobs/new/")
    tab.page.get_by_label("Prompt", exact=True).fill("THINK AND TALK")
    tab.page.get_by_role("button", name="Start the job").click()
    tab.page.wait_for_url(re.compile(r"/jobs/job_\w+/$"))
    expect(tab.page.locator("#log-state")).to_have_text("Ended: completed", timeout=60_000)
    assert tab.complaints == []


def test_a_job_of_another_tenant_is_unknown_while_it_runs_and_after(
    log_in: Callable[[str], Tab], member: Client, screenshot: Callable[[Tab, str], Path]
) -> None:
    tab = log_in("eve")

    def assert_unknown() -> None:
        answer = tab.page.goto(f"/jobs/{job_id}/")
        assert answer is not None
        assert answer.status == 404
        expect(tab.page.get_by_role("heading")).to_have_text("There is no such job")
        assert "NOT FOR EVE" not in tab.page.content()
        assert tab.page.evaluate(STREAMS, job_id) == [4404, 404]

    with slow_job(member, "SLOW JOB, NOT FOR EVE") as job_id:
        assert_unknown()
        screenshot(tab, "console-not-found")
    assert_unknown()
    tab.page.goto("/jobs/")
    expect(tab.page.get_by_text("NOT FOR EVE")).to_have_count(0)


def test_a_viewer_watches_a_job_without_buttons(log_in: Callable[[str], Tab], member: Client) -> None:
    tab = log_in("vic")
    expect(tab.page.get_by_text("New job")).to_have_count(0)
    with slow_job(member, "SLOW JOB") as job_id:
        tab.page.goto(f"/jobs/{job_id}/")
        expect(tab.page.locator("#log-state")).to_have_text("Live")
        expect(tab.page.locator("#log")).to_contain_text("One more second.")
        expect(tab.page.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(tab.page.locator("#job-status")).to_have_text("cancelled")
    expect(tab.page.get_by_role("button", name="Retry")).to_have_count(0)
    assert tab.complaints == []


def test_a_logout_in_another_tab_keeps_the_log_and_returns_after_login(
    log_in: Callable[[str], Tab], member: Client
) -> None:
    tab = log_in("ann")
    with slow_job(member, "SLOW JOB") as job_id:
        tab.page.goto(f"/jobs/{job_id}/")
        expect(tab.page.locator("#log-state")).to_have_text("Live")
        with new_tab(tab.page.context) as elsewhere:
            elsewhere.page.goto("/jobs/")
            elsewhere.page.get_by_role("button", name="Log out").click()
            elsewhere.page.wait_for_url("**/login/")
        expect(tab.page.locator("#log-state")).to_contain_text("Your session has ended.")
        asked: list[str] = []
        tab.page.on("request", lambda request: asked.append(request.url))
        # This is longer than the refresh interval of the header.
        tab.page.wait_for_timeout(4_000)
        assert asked == []
        expect(tab.page.locator("#log")).to_contain_text("One more second.")
        tab.page.get_by_role("link", name="Log in again").click()
        submit_login(tab.page, "ann")
        tab.page.wait_for_url(f"**/jobs/{job_id}/")
        expect(tab.page.locator("#log-state")).to_have_text("Live")


def test_the_list_returns_after_a_new_login(log_in: Callable[[str], Tab], member: Client) -> None:
    tab = log_in("ann")
    with slow_job(member, "SLOW JOB"):
        tab.page.goto("/jobs/?status=live")
        tab.page.context.clear_cookies()
        tab.page.wait_for_url("**/login/?next=*")
        submit_login(tab.page, "ann")
        tab.page.wait_for_url("**/jobs/?status=live")


def test_a_member_of_two_tenants_chooses_by_pointer_and_by_keyboard(log_in: Callable[[str], Tab]) -> None:
    tab = log_in("ann")
    chosen = tab.page.get_by_label("Tenant")
    expect(chosen.locator("option:checked")).to_have_text("Default tenant")
    chosen.select_option("other")
    expect(tab.page.get_by_text("No jobs yet.")).to_be_visible()
    # The keyboard passes other options, so a key alone must not change the tenant.
    chosen.focus()
    tab.page.keyboard.press("D")
    tab.page.wait_for_timeout(500)
    expect(chosen).to_be_focused()
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_text("No jobs yet.")).to_have_count(0)
    expect(chosen.locator("option:checked")).to_have_text("Default tenant")
    assert tab.complaints == []


def test_a_changed_form_with_a_used_key_can_be_sent_again(log_in: Callable[[str], Tab]) -> None:
    tab = log_in("ann")
    tab.page.goto("/jobs/new/")
    prompt = tab.page.get_by_label("Prompt", exact=True)
    once = tab.page.locator("[name=idempotency_key]").input_value()
    for text in ("THINK AND TALK once", "THINK AND TALK twice"):
        tab.page.goto("/jobs/new/")
        # A member gets this state by stopping the page while it loads.
        tab.page.locator("[name=idempotency_key]").evaluate("(field, value) => (field.value = value)", once)
        prompt.fill(text)
        tab.page.get_by_role("button", name="Start the job").click()
        tab.page.wait_for_load_state()
    expect(tab.page.get_by_role("alert")).to_contain_text("has started a job before")
    expect(prompt).to_have_value("THINK AND TALK twice")
    tab.page.get_by_role("button", name="Start the job").click()
    tab.page.wait_for_url(re.compile(r"/jobs/job_\w+/$"))
    expect(tab.page.locator("#log-state")).to_have_text("Ended: completed", timeout=60_000)
