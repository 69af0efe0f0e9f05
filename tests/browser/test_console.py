"""Web console in a real browser: start, watch, cancel and retry jobs, with accessible pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.client import Client, file_url
from tests.browser.journeys import job_of, log_in, serious_problems, start, wait_ended
from tests.fixtures.chromium import Tab, new_tab
from tests.fixtures.repos import make_remote
from tests.stacks import RunningStack

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]

Screenshot = Callable[[Tab, str], Path]
# This prompt makes a job with a diff.
WRITE = "WRITE notes.txt: hello from the console"


@pytest.fixture
def remote(tmp_path: Path) -> str:
    return file_url(make_remote(tmp_path / "remote.git"))


def test_a_job_is_started_and_watched_to_its_end(
    page: Tab, member: Client, remote: str, screenshot: Screenshot
) -> None:
    job_id = start(page.page, WRITE, remote)
    wait_ended(page.page, "completed")
    log = page.page.locator("#log")
    expect(log).to_contain_text("I write notes.txt.")
    expect(log).to_contain_text("Edit")
    diff = log.locator(".row[data-kind='git.diff']")
    expect(diff.locator(".file-name")).to_have_text("notes.txt")
    expect(diff.locator(".added")).to_have_text("+hello from the console\n")
    expect(page.page.locator("#job-result")).to_contain_text(f"myctobot/{job_id}")
    expect(page.page.locator("#job-tokens")).to_contain_text("input")
    screenshot(page, "console-completed")
    count = member.job(job_id)["events_count"]
    assert len(member.events(job_id)) == count


# The page builds the content of a fold when it opens, and a fold may contain folds.
UNFOLD = """() => {
    for (let closed; (closed = [...document.querySelectorAll("#log details:not([open])")]).length; )
        for (const one of closed) { one.fill?.(); one.open = true; }
}"""


def log_texts(page: Page) -> list[str]:
    """Unfold every row of the log, and return the texts of the rows."""
    page.evaluate(UNFOLD)
    return page.locator("#log .row .what").all_inner_texts()


def test_a_reload_shows_every_event_once(page: Tab, member: Client) -> None:
    job_id = start(page.page, "SLOW JOB")
    expect(page.page.locator("#log")).to_contain_text("One more second.")
    page.page.reload()
    expect(page.page.locator("#log-state")).to_have_text("Live")
    member.wait(job_id, lambda job: job["events_count"] > 15)
    member.cancel(job_id)
    wait_ended(page.page, "cancelled")
    watched = log_texts(page.page)
    sent = [event["data"]["text"] for event in member.events(job_id) if event["kind"] == "agent.message"]
    assert [text for text in watched if text in sent] == sent
    calls = [event for event in member.events(job_id) if event["kind"] == "tool.call"]
    assert page.page.locator("#log .row[data-kind='tool.call']").count() == len(calls)
    # The page of an ended job replays the same rows.
    page.page.reload()
    wait_ended(page.page, "cancelled")
    # The page builds the rows over several frames.
    expect(page.page.locator("#log .row")).to_have_count(len(watched))
    assert log_texts(page.page) == watched


def test_a_cancel_needs_a_confirmation(page: Tab, member: Client, screenshot: Screenshot) -> None:
    job_id = start(page.page, "SLOW JOB")
    expect(page.page.locator("#log")).to_contain_text("One more second.")
    screenshot(page, "console-running")
    page.page.get_by_role("button", name="Cancel", exact=True).click()
    assert serious_problems(page.page) == []
    page.page.get_by_role("button", name="Keep it").click()
    assert member.job(job_id)["cancel_requested_at"] is None
    page.page.get_by_role("button", name="Cancel", exact=True).click()
    page.page.get_by_role("button", name="Cancel the job").click()
    wait_ended(page.page, "cancelled")
    expect(page.page.locator("#job-error")).to_contain_text("nothing of the job runs any more")
    screenshot(page, "console-cancelled")


def test_a_retry_opens_the_new_job(page: Tab, member: Client) -> None:
    old = start(page.page, "THINK AND TALK")
    wait_ended(page.page, "completed")
    page.page.get_by_role("button", name="Retry").click()
    page.page.wait_for_url(lambda url: "/jobs/job_" in url and old not in url)
    wait_ended(page.page, "completed")
    assert member.job(job_of(page.page))["retry_of"] == old


def test_a_waiting_job_shows_its_reason_and_starts_without_a_reload(
    page: Tab, member: Client, screenshot: Screenshot
) -> None:
    blockers = [member.submit({"prompt": "SLOW JOB"}) for _ in range(2)]
    for blocker in blockers:
        member.wait_event(blocker, "agent.started")
    start(page.page, "THINK AND TALK")
    expect(page.page.locator("#job-waiting")).to_contain_text("busy")
    screenshot(page, "console-waiting")
    for blocker in blockers:
        member.cancel(blocker)
    wait_ended(page.page, "completed")
    expect(page.page.locator("#job-waiting")).to_have_count(0)
    expect(page.page.locator("#log")).to_contain_text("Hello. I have nothing to do.")


def test_the_list_updates_and_filters(page: Tab, member: Client, screenshot: Screenshot) -> None:
    job_id = member.submit({"prompt": "SLOW JOB in the list"})
    page.page.goto("/jobs/")
    row = page.page.locator("tr", has_text=job_id)
    expect(row).to_contain_text("running")
    screenshot(page, "console-jobs")
    member.cancel(job_id)
    # The row changes without a reload.
    expect(row).to_contain_text("cancelled")
    page.page.get_by_label("Status").select_option("completed")
    page.page.wait_for_url("**status=completed**")
    expect(row).to_have_count(0)


def test_the_list_contains_the_form(page: Tab, screenshot: Screenshot) -> None:
    page.page.goto("/jobs/")
    page.page.locator("#new-job > summary").click()
    boxes = page.page.locator("#new-job .capability")
    expect(boxes).to_have_count(2)
    expect(boxes.first).to_contain_text("Reads, writes and runs programs")
    page.page.get_by_label("Prompt", exact=True).fill("THINK AND TALK")
    screenshot(page, "console-list-form")
    page.page.get_by_role("button", name="Start the job").click()
    page.page.wait_for_url(re.compile(r"/jobs/job_\w+/$"))
    wait_ended(page.page, "completed")


def test_the_log_can_be_searched_and_filtered(page: Tab, member: Client) -> None:
    done = member.run({"prompt": "SCRIPT:\nfor i in $(seq 1 300); do echo needle-$i in the hay; done"})
    assert done["status"] == "completed", done
    page.page.goto(f"/jobs/{done['id']}/")
    wait_ended(page.page, "completed")
    page.page.keyboard.press("/")
    page.page.keyboard.type("needle-299")
    expect(page.page.locator("#log-found")).to_have_text("1 found")
    page.page.keyboard.press("Escape")
    tools = page.page.get_by_role("button", name=re.compile("^Tools"))
    tools.click()
    expect(tools).to_have_attribute("aria-pressed", "false")
    expect(page.page.locator("#log .row[data-group=tools]").first).to_be_hidden()
    tools.click()
    expect(page.page.locator("#log .row[data-group=tools]").first).to_be_visible()


def test_the_log_can_be_downloaded(page: Tab, member: Client) -> None:
    done = member.run({"prompt": "THINK AND TALK"})
    page.page.goto(f"/jobs/{done['id']}/")
    with page.page.expect_download() as caught:
        page.page.get_by_role("link", name="Raw log").click()
    lines = Path(caught.value.path()).read_text().splitlines()
    assert len(lines) == done["events_count"]


def test_an_error_is_shown_at_its_field(page: Tab, screenshot: Screenshot) -> None:
    page.page.goto("/jobs/new/")
    page.page.get_by_label("Prompt", exact=True).fill("Fix it.")
    page.page.locator("#id_repo_url").fill("ext::sh -c id")
    page.page.get_by_role("button", name="Start the job").click()
    expect(page.page.locator("#id_repo_url_error")).to_contain_text("URL")
    expect(page.page.locator("#id_repo_url")).to_have_attribute("aria-invalid", "true")
    expect(page.page.get_by_label("Prompt", exact=True)).to_have_value("Fix it.")
    screenshot(page, "console-form-error")
    assert serious_problems(page.page) == []
    # The browser reports each answer with status 400 as an error.
    page.complaints[:] = [text for text in page.complaints if "400" not in text]


def test_output_of_an_agent_is_shown_as_text(page: Tab) -> None:
    hostile = "RUN: printf '<img src=x onerror=\"document.title=1\">\\033[31mred\\033[0m\\a\\n'"
    start(page.page, hostile)
    wait_ended(page.page, "completed")
    rows = "\n".join(log_texts(page.page))
    assert '<img src=x onerror="document.title=1">' in rows
    assert "\x1b" not in rows
    assert "\x07" not in rows
    assert page.page.locator("#log img").count() == 0
    assert page.page.title() != "1"


def test_an_unknown_job_has_an_error_page(page: Tab) -> None:
    answer = page.page.goto("/jobs/job_00000000000000000000/")
    assert answer is not None
    assert answer.status == 404
    expect(page.page.get_by_role("heading")).to_contain_text("no such job")
    page.complaints[:] = [text for text in page.complaints if "404" not in text]


def test_a_job_can_be_started_and_cancelled_by_keyboard(page: Tab) -> None:
    keyboard = page.page.keyboard
    page.page.goto("/jobs/")
    keyboard.press("Tab")
    expect(page.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.page.get_by_role("link", name="New job").focus()
    keyboard.press("Enter")
    page.page.wait_for_url("**/jobs/new/")
    page.page.get_by_label("Prompt", exact=True).focus()
    keyboard.type("SLOW JOB")
    for _ in range(30):
        keyboard.press("Tab")
        if page.page.evaluate("document.activeElement.textContent").strip() == "Start the job":
            break
    keyboard.press("Enter")
    page.page.wait_for_url(re.compile(r"/jobs/job_\w+/$"))
    expect(page.page.locator("#log")).to_contain_text("One more second.")
    page.page.locator("#cancel-button").focus()
    keyboard.press("Enter")
    expect(page.page.get_by_role("button", name="Keep it")).to_be_focused()
    keyboard.press("Shift+Tab")
    keyboard.press("Enter")
    wait_ended(page.page, "cancelled")


DISPLAYS: list[Any] = [
    pytest.param({"color_scheme": "light", "viewport": {"width": 1280, "height": 900}}, id="light"),
    pytest.param(
        {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}}, id="dark", marks=pytest.mark.long
    ),
    pytest.param(
        {"color_scheme": "light", "viewport": {"width": 390, "height": 844}}, id="phone", marks=pytest.mark.long
    ),
]


@pytest.mark.parametrize("display", DISPLAYS)
def test_pages_are_accessible(
    browser: Browser,
    stack: RunningStack,
    member: Client,
    remote: str,
    display: dict[str, Any],
    screenshot: Screenshot,
    request: pytest.FixtureRequest,
) -> None:
    name = request.node.callspec.id
    done = member.run({"prompt": WRITE, "repo_url": remote})
    live = member.submit({"prompt": "SLOW JOB"})
    member.wait_event(live, "tool.result")
    context = browser.new_context(base_url=stack.web_url, **display)
    with new_tab(context) as tab:
        tab.page.goto("/jobs/")
        problems = {"login": serious_problems(tab.page)}
        log_in(tab.page, stack)
        for what, path in {
            "list": "/jobs/", "form": "/jobs/new/", "running": f"/jobs/{live}/", "ended": f"/jobs/{done['id']}/",
        }.items():  # fmt: skip
            tab.page.goto(path)
            if "job_" in path:
                expect(tab.page.locator("#log .row").first).to_be_visible()
            problems[what] = serious_problems(tab.page)
            if "job_" in path:
                log_texts(tab.page)
                problems[f"{what}, folded out"] = serious_problems(tab.page)
                tab.page.keyboard.press("?")
                problems[f"{what}, with its keys"] = serious_problems(tab.page)
                tab.page.keyboard.press("Escape")
            wide = tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{what} is wider than the screen by {wide} pixels"
            screenshot(tab, f"console-{what}-{name}")
        assert tab.complaints == []
    context.close()
    member.cancel(live)
    assert {what: found for what, found in problems.items() if found} == {}
