"""Operators' pages in a real browser with real jobs: live updates, accessibility and undisturbed input."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.acceptance.client import Client
from tests.browser.journeys import log_in, serious_problems
from tests.fixtures.chromium import Tab, new_tab
from tests.stacks import RunningStack

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]

Screenshot = Callable[[Tab, str], Path]
REFRESH_MS = 12_000


@pytest.fixture
def started(member: Client) -> Iterator[list[str]]:
    """Collect ids of jobs, and cancel these jobs at the end of the test."""
    jobs: list[str] = []
    yield jobs
    for job_id in jobs:
        member.cancel(job_id)
    for job_id in jobs:
        member.wait_end(job_id)


def run(member: Client, started: list[str]) -> str:
    job_id = member.submit({"prompt": "SLOW JOB"})
    started.append(job_id)
    member.wait_event(job_id, "agent.started")
    return job_id


def is_refresh(request: Request) -> bool:
    return urlsplit(request.url).path == "/ops/" and request.headers.get("hx-request") == "true"


def wait_refreshed(page: Page) -> None:
    with page.expect_response(lambda answer: is_refresh(answer.request), timeout=REFRESH_MS):
        pass
    page.wait_for_timeout(200)


def test_a_job_appears_without_a_reload_and_links_to_its_live_log(
    page: Tab, member: Client, started: list[str], screenshot: Screenshot
) -> None:
    page.page.set_viewport_size({"width": 1400, "height": 900})
    page.page.goto("/ops/")
    expect(page.page.locator("#ops-totals")).to_contain_text("Running")
    job_id = run(member, started)
    live = page.page.locator("#live-local")
    expect(live).to_contain_text("1 job live")
    screenshot(page, "ops")
    assert serious_problems(page.page) == []
    live.click()
    page.page.get_by_role("link", name=f"Follow live {job_id}").click()
    page.page.wait_for_url(f"**/jobs/{job_id}/")
    expect(page.page.locator("#job-status")).to_have_text("running")


def test_pages_fit_on_a_phone(page: Tab, member: Client, started: list[str], screenshot: Screenshot) -> None:
    run(member, started)
    page.page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/ops/", "/ops/queues/", "/ops/operations/", "/ops/decisions/", "/ops/shards/local/"):
        page.page.goto(path)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert serious_problems(page.page) == [], path
    page.page.goto("/ops/")
    screenshot(page, "ops-phone")


def test_the_dark_scheme_is_accessible(browser: Browser, stack: RunningStack, screenshot: Screenshot) -> None:
    context = browser.new_context(base_url=stack.web_url, color_scheme="dark")
    with new_tab(context) as tab:
        log_in(tab.page, stack)
        tab.page.goto("/ops/")
        assert serious_problems(tab.page) == []
        screenshot(tab, "ops-dark")
    context.close()


def test_a_refresh_keeps_focus_position_filters_and_typed_text(page: Tab) -> None:
    page.page.set_viewport_size({"width": 1280, "height": 500})
    page.page.goto("/ops/?state=ready")
    page.page.get_by_label("Name or class").fill("loc")
    page.page.evaluate("scrollTo(0, 300)")
    wait_refreshed(page.page)
    assert page.page.evaluate("scrollY") == 300
    expect(page.page.get_by_label("Name or class")).to_have_value("loc")
    expect(page.page.get_by_label("Name or class")).to_be_focused()
    expect(page.page.get_by_label("State", exact=True)).to_have_value("ready")
    link = page.page.locator("#shard-local")
    link.focus()
    page.page.evaluate("document.querySelector('#shard-local').dataset.old = 'yes'")
    wait_refreshed(page.page)
    assert link.get_attribute("data-old") is None
    expect(link).to_be_focused()


def test_a_hidden_page_makes_no_request_and_refreshes_when_shown(page: Tab) -> None:
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url) if is_refresh(request) else None)
    page.page.clock.install()
    page.page.goto("/ops/")
    hide = "hidden => Object.defineProperty(document, 'hidden', {value: hidden, configurable: true})"
    page.page.evaluate(hide, True)
    page.page.clock.run_for(60_000)
    assert asked == []
    page.page.evaluate(hide, False)
    with page.page.expect_request(is_refresh):
        page.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_filters_without_a_match_can_be_reset(page: Tab) -> None:
    page.page.goto("/ops/")
    page.page.get_by_label("State", exact=True).select_option("lost")
    page.page.get_by_role("button", name="Filter").click()
    expect(page.page).to_have_url(re.compile(r"state=lost"))
    expect(page.page.get_by_text("No shard matches these filters.")).to_be_visible()
    page.page.locator("#show-all").click()
    expect(page.page.locator("#shard-local")).to_be_visible()


def test_the_page_shows_that_the_server_is_unreachable(page: Tab) -> None:
    page.page.goto("/ops/")
    expect(page.page.locator("#ops-state")).to_have_text("Live")
    page.page.context.set_offline(True)
    expect(page.page.locator("#ops-state")).to_have_text("Unreachable", timeout=REFRESH_MS)
    page.page.context.set_offline(False)
    expect(page.page.locator("#ops-state")).to_have_text("Live", timeout=REFRESH_MS)
    # Chromium and htmx report the failure too.
    known = ("ERR_INTERNET_DISCONNECTED", "htmx:sendError", "htmx:afterRequest")
    page.complaints[:] = [text for text in page.complaints if not any(words in text for words in known)]


def test_an_ended_session_redirects_to_the_login_and_back(browser: Browser, stack: RunningStack) -> None:
    context = browser.new_context(base_url=stack.web_url)
    with new_tab(context) as tab:
        log_in(tab.page, stack)
        tab.page.goto("/ops/?state=ready")
        context.clear_cookies()
        tab.page.wait_for_url("**/login/?next=*", timeout=REFRESH_MS)
        assert "next=%2Fops%2F%3Fstate%3Dready" in tab.page.url
    context.close()
