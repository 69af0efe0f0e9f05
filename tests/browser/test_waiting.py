"""Waiting jobs in a real browser: limits in the form, the estimate, and the reason on the page of a job."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.client import Client
from tests.browser.journeys import log_in, serious_problems, wait_ended
from tests.fixtures.chromium import Tab, new_tab
from tests.stacks import RunningStack

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]

Screenshot = Callable[[Tab, str], Path]
TOMORROW = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT08:30}"


@pytest.fixture
def started(member: Client) -> Iterator[list[str]]:
    """Collect ids of jobs, and cancel these jobs at the end of the test."""
    jobs: list[str] = []
    yield jobs
    for job_id in jobs:
        member.cancel(job_id)
    for job_id in jobs:
        member.wait_end(job_id)


@pytest.fixture
def busy(member: Client, started: list[str]) -> None:
    """Occupy both slots of the shard."""
    blockers = [member.submit({"prompt": "SLOW JOB"}) for _ in range(2)]
    started += blockers
    for job_id in blockers:
        member.wait_event(job_id, "agent.started")


def open_form(page: Page) -> None:
    page.goto("/jobs/new/")
    page.locator("#job-limits > summary").click()


def send(page: Page) -> str:
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/jobs/job_\w+/$"))
    return page.url.rstrip("/").rpartition("/")[2]


def test_the_form_sets_limits_and_the_page_shows_the_delay(
    page: Tab, member: Client, started: list[str], screenshot: Screenshot
) -> None:
    open_form(page.page)
    page.page.get_by_label("Prompt", exact=True).fill("THINK AND TALK")
    for label, value in {
        "Not before, UTC": TOMORROW, "Maximum wait, minutes": "90", "Maximum silence, minutes": "2",
        "Maximum attempts": "3", "Concurrency key": "nightly", "Maximum jobs with this key": "2",
    }.items():  # fmt: skip
        page.page.get_by_label(label).fill(value)
    page.page.get_by_label("the agent fails").check()
    screenshot(page, "waiting-form")
    job_id = send(page.page)
    started.append(job_id)
    job = member.job(job_id)
    assert job["not_before"] == f"{TOMORROW}:00Z"
    assert (job["queue_timeout_s"], job["no_output_timeout_s"]) == (5400, 120)
    assert job["retry"] == {"max_attempts": 3, "on": ["agent", "infrastructure"]}
    assert job["concurrency"] == {"key": "nightly", "limit": 2}
    waiting = page.page.locator("#job-waiting")
    expect(waiting).to_contain_text(f"The job starts at {TOMORROW.replace('T', ' ')}:00 UTC at the earliest.")
    expect(waiting).to_contain_text("Parked until")
    expect(waiting).to_contain_text("It fails if no shard takes it by")
    screenshot(page, "waiting-parked")


def test_an_error_in_the_folded_part_opens_it(page: Tab) -> None:
    open_form(page.page)
    page.page.get_by_label("Prompt", exact=True).fill("Fix it.")
    page.page.get_by_label("Concurrency key").fill("k" * 301)
    page.page.get_by_role("button", name="Start the job").click()
    expect(page.page.locator("#id_concurrency_key_error")).to_be_visible()
    expect(page.page.locator("#id_concurrency_key")).to_have_attribute("aria-invalid", "true")
    assert serious_problems(page.page) == []
    page.complaints[:] = [text for text in page.complaints if "400" not in text]


@pytest.mark.parametrize("where", ["page", "list"])
def test_the_estimate_changes_without_moving_the_form(page: Tab, busy: None, where: str) -> None:
    page.page.goto("/jobs/new/" if where == "page" else "/jobs/")
    if where == "list":
        page.page.locator("#new-job > summary").click()
    line = page.page.locator("#estimate")
    expect(line).to_contain_text("The only healthy shard with filesystem and git is busy.")
    height = "document.querySelector('#job-form').offsetHeight"
    before = page.page.evaluate(height)
    page.page.get_by_label("filesystem", exact=True).uncheck()
    expect(line).to_contain_text("The only healthy shard with git is busy.")
    page.page.get_by_label("git", exact=True).uncheck()
    expect(line).to_be_empty()
    assert page.page.evaluate(height) == before


def test_the_estimate_with_a_free_slot_respects_the_delay(page: Tab) -> None:
    open_form(page.page)
    line, help_text = page.page.locator("#estimate"), page.page.locator("#id_not_before_helptext")
    expect(line).to_have_text("Would start immediately.")
    page.page.get_by_label("Not before, UTC").fill(TOMORROW)
    page.page.get_by_label("Prompt", exact=True).focus()
    expect(line).to_contain_text(f"The job starts at {TOMORROW.replace('T', ' ')} UTC at the earliest.")
    # This browser's zone is UTC, so only the way to say it differs.
    expect(help_text).to_contain_text("In your time zone: ")
    page.page.get_by_label("Not before, UTC").fill("")
    page.page.get_by_label("Prompt", exact=True).focus()
    expect(line).to_have_text("Would start immediately.")
    expect(help_text).to_have_text("Empty: as soon as a shard is free.")


def test_an_ended_session_keeps_the_unfinished_form(browser: Browser, stack: RunningStack) -> None:
    context = browser.new_context(base_url=stack.web_url)
    with new_tab(context) as tab:
        log_in(tab.page, stack)
        open_form(tab.page)
        expect(tab.page.locator("#estimate")).not_to_be_empty()
        tab.page.get_by_label("Prompt", exact=True).fill("A long text.")
        context.clear_cookies()
        tab.page.get_by_label("Priority").select_option("high")
        expect(tab.page.locator("#estimate")).to_be_empty()
        expect(tab.page.get_by_label("Prompt", exact=True)).to_have_value("A long text.")
    context.close()


def test_a_job_behind_a_key_links_to_the_holder_and_starts_after_it(
    page: Tab, member: Client, started: list[str], screenshot: Screenshot
) -> None:
    holder = member.submit({"prompt": "SLOW JOB"}, concurrency={"key": "one by one"})
    started.append(holder)
    member.wait_event(holder, "agent.started")
    behind = member.submit({"prompt": "THINK AND TALK"}, concurrency={"key": "one by one"})
    started.append(behind)
    page.page.goto(f"/jobs/{behind}/")
    expect(page.page.locator("#job-waiting")).to_contain_text("At most one job with the concurrency key 'one by one'")
    screenshot(page, "waiting-key")
    # The form warns a member who is about to start another job with this key.
    open_form(page.page)
    page.page.get_by_label("Concurrency key").fill("one by one")
    page.page.get_by_label("Prompt", exact=True).focus()
    expect(page.page.locator("#estimate")).to_have_text("Would wait: Another job with this concurrency key runs now.")
    page.page.goto(f"/jobs/{behind}/")
    page.page.locator("#job-waiting a").click()
    page.page.wait_for_url(f"**/jobs/{holder}/")
    page.page.go_back()
    member.cancel(holder)
    wait_ended(page.page, "completed")


def test_another_attempt_is_announced_and_continues_the_log(
    page: Tab, member: Client, started: list[str], screenshot: Screenshot
) -> None:
    job_id = member.submit({"prompt": "SLOW JOB"}, max_turns=1, retry={"max_attempts": 2, "on": ["agent"]})
    started.append(job_id)
    page.page.goto(f"/jobs/{job_id}/")
    expect(page.page.locator("#job-waiting")).to_contain_text("attempt 2 of 2")
    screenshot(page, "waiting-retry")
    expect(page.page.locator("#log [data-attempt]")).to_contain_text("attempt 2")
    wait_ended(page.page, "failed")
    expect(page.page.locator("#job-tries")).to_have_text("2 of at most 2")
    expect(page.page.locator("#job-error")).to_contain_text("It was the last of 2 attempts")
    assert page.page.locator("#log [data-outcome=failed]").count() == 2
    page.page.locator("#attempts > summary").click()
    assert [text.partition(" on ")[0] for text in page.page.locator("#attempts li").all_inner_texts()] == ["failed"] * 2
    screenshot(page, "waiting-two-attempts")


DISPLAYS: list[Any] = [
    pytest.param({"color_scheme": "light", "viewport": {"width": 1280, "height": 900}}, id="light"),
    pytest.param(
        {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}}, id="dark", marks=pytest.mark.long
    ),
    pytest.param(
        {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}}, id="phone", marks=pytest.mark.long
    ),
]


@pytest.mark.parametrize("display", DISPLAYS)
def test_pages_are_accessible(
    browser: Browser,
    stack: RunningStack,
    member: Client,
    started: list[str],
    busy: None,
    display: dict[str, Any],
    screenshot: Screenshot,
    request: pytest.FixtureRequest,
) -> None:
    name = request.node.callspec.id
    key, bounds = {"key": f"nightly {name}"}, {"queue_timeout_s": 5400, "not_before": f"{TOMORROW}:00Z"}
    parked = member.submit({"prompt": "SLOW JOB, parked"}, **bounds, concurrency=key)
    waiting = member.submit({"prompt": "SLOW JOB, in the line"}, priority="batch")
    started += [parked, waiting]
    context = browser.new_context(base_url=stack.web_url, **display)
    problems = {}
    with new_tab(context) as tab:
        log_in(tab.page, stack)
        for what, path in {
            "list": "/jobs/", "form": "/jobs/new/", "parked": f"/jobs/{parked}/", "line": f"/jobs/{waiting}/",
        }.items():  # fmt: skip
            tab.page.goto(path)
            if what == "form":
                tab.page.locator("#job-limits > summary").click()
                expect(tab.page.locator("#estimate")).to_contain_text("busy")
            problems[what] = serious_problems(tab.page)
            wide = tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{what} is wider than the screen by {wide} pixels"
            screenshot(tab, f"waiting-{what}-{name}")
        assert tab.complaints == []
    context.close()
    assert {what: found for what, found in problems.items() if found} == {}
