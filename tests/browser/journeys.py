"""Steps that several browser tests perform in the console."""

from __future__ import annotations

import re

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.stacks import RunningStack

SERIOUS = ("serious", "critical")


def log_in(page: Page, stack: RunningStack) -> None:
    page.goto("/jobs/")
    page.get_by_label("User name").fill(stack.login)
    page.get_by_label("Password").fill(stack.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/jobs/")


def serious_problems(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']} {[node['html'][:120] for node in one['nodes']]}"
        for one in found
        if one["impact"] in SERIOUS
    ]


def job_of(page: Page) -> str:
    found = re.search(r"/jobs/(job_\w+)/", page.url)
    assert found, page.url
    return found[1]


def start(page: Page, prompt: str, repo_url: str = "") -> str:
    """Start a job by the form, and return its id when its page is open."""
    page.goto("/jobs/new/")
    page.get_by_label("Prompt", exact=True).fill(prompt)
    if repo_url:
        page.locator("#id_repo_url").fill(repo_url)
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/jobs/job_\w+/$"))
    return job_of(page)


def wait_ended(page: Page, status: str) -> None:
    expect(page.locator("#job-status")).to_have_text(status, timeout=60_000)
    expect(page.locator("#log-state")).to_contain_text("Ended")
