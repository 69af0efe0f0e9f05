"""Who may see what in the console: members who are no staff, viewers, another tenant's people, those who logged out."""

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
# Somebody of two tenants, a viewer, and somebody of another tenant; none of them is staff.
PEOPLE = """
from django.contrib.auth.models import User
from myctobot.tenants.models import Member, Role, Tenant
default = Tenant.objects.get(slug="default")
other = Tenant.objects.create(slug="other", name="Another tenant")
places = {
    "ann": [(default, Role.MEMBER), (other, Role.MEMBER)],
    "vic": [(default, Role.VIEWER)],
    "eve": [(other, Role.MEMBER)],
}
for name, theirs in places.items():
    user = User.objects.create_user(name, password="only-for-this-test")
    for tenant, role in theirs:
        Member.objects.create(user=user, tenant=tenant, role=role)
"""
# Both streams of a job, as a script of the page could ask for them.
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

    def come_in(name: str) -> Tab:
        context = browser.new_context(base_url=stack.web_url, viewport={"width": 1280, "height": 900})
        contexts.append(context)
        tab = Tab(context.new_page())
        tab.page.goto("/")
        fill_in(tab.page, name)
        tab.page.wait_for_url("**/jobs/")
        return tab

    yield come_in
    for context in contexts:
        context.close()


def fill_in(page: Page, name: str) -> None:
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


def test_a_member_who_is_no_staff_works_here_and_sees_no_admin(log_in: Callable[[str], Tab], member: Client) -> None:
    tab = log_in("ann")
    expect(tab.page.get_by_role("link", name="Admin")).to_have_count(0)
    tab.page.goto("/jobs/new/")
    tab.page.get_by_label("Prompt", exact=True).fill("THINK AND TALK")
    tab.page.get_by_role("button", name="Start the job").click()
    tab.page.wait_for_url(re.compile(r"/jobs/job_\w+/$"))
    expect(tab.page.locator("#log-state")).to_have_text("Ended: completed", timeout=60_000)
    assert tab.complaints == []


def test_another_tenants_job_is_not_there_while_it_runs_and_after(
    log_in: Callable[[str], Tab], member: Client, screenshot: Callable[[Tab, str], Path]
) -> None:
    tab = log_in("eve")

    def look() -> None:
        answer = tab.page.goto(f"/jobs/{job_id}/")
        assert answer is not None
        assert answer.status == 404
        expect(tab.page.get_by_role("heading")).to_have_text("There is no such job")
        assert "NOT FOR EVE" not in tab.page.content()
        assert tab.page.evaluate(STREAMS, job_id) == [4404, 404]

    with slow_job(member, "SLOW JOB, NOT FOR EVE") as job_id:
        look()
        screenshot(tab, "console-not-found")
    look()
    tab.page.goto("/jobs/")
    expect(tab.page.get_by_text("NOT FOR EVE")).to_have_count(0)


def test_a_viewer_watches_and_is_offered_nothing_to_press(log_in: Callable[[str], Tab], member: Client) -> None:
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


def test_who_logs_out_elsewhere_keeps_what_was_on_the_page_and_comes_back(
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
        # Longer than the header waits for its next turn.
        tab.page.wait_for_timeout(4_000)
        assert asked == []
        expect(tab.page.locator("#log")).to_contain_text("One more second.")
        tab.page.get_by_role("link", name="Log in again").click()
        fill_in(tab.page, "ann")
        tab.page.wait_for_url(f"**/jobs/{job_id}/")
        expect(tab.page.locator("#log-state")).to_have_text("Live")


def test_a_list_that_was_logged_out_leads_back_to_itself(log_in: Callable[[str], Tab], member: Client) -> None:
    tab = log_in("ann")
    with slow_job(member, "SLOW JOB"):
        tab.page.goto("/jobs/?status=live")
        tab.page.context.clear_cookies()
        tab.page.wait_for_url("**/login/?next=*")
        fill_in(tab.page, "ann")
        tab.page.wait_for_url("**/jobs/?status=live")


def test_somebody_of_two_tenants_chooses_by_pointer_and_by_keyboard(log_in: Callable[[str], Tab]) -> None:
    tab = log_in("ann")
    chosen = tab.page.get_by_label("Tenant")
    expect(chosen.locator("option:checked")).to_have_text("Default tenant")
    chosen.select_option("other")
    expect(tab.page.get_by_text("No jobs yet.")).to_be_visible()
    # With the keys one goes past choices that are not meant.
    chosen.focus()
    tab.page.keyboard.press("D")
    tab.page.wait_for_timeout(500)
    expect(chosen).to_be_focused()
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_text("No jobs yet.")).to_have_count(0)
    expect(chosen.locator("option:checked")).to_have_text("Default tenant")
    assert tab.complaints == []


def test_a_form_that_was_sent_and_changed_can_be_sent_again(log_in: Callable[[str], Tab]) -> None:
    tab = log_in("ann")
    tab.page.goto("/jobs/new/")
    prompt = tab.page.get_by_label("Prompt", exact=True)
    once = tab.page.locator("[name=idempotency_key]").input_value()
    for text in ("THINK AND TALK once", "THINK AND TALK twice"):
        tab.page.goto("/jobs/new/")
        # As after somebody stopped the page that was on its way.
        tab.page.locator("[name=idempotency_key]").evaluate("(field, value) => (field.value = value)", once)
        prompt.fill(text)
        tab.page.get_by_role("button", name="Start the job").click()
        tab.page.wait_for_load_state()
    expect(tab.page.get_by_role("alert")).to_contain_text("has started a job before")
    expect(prompt).to_have_value("THINK AND TALK twice")
    tab.page.get_by_role("button", name="Start the job").click()
    tab.page.wait_for_url(re.compile(r"/jobs/job_\w+/$"))
    expect(tab.page.locator("#log-state")).to_have_text("Ended: completed", timeout=60_000)
