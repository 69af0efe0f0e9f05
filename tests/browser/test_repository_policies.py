"""A push that changes CI files is refused; an admin of the tenant follows the link and allows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.client import file_url
from tests.browser.journeys import serious_problems, start, wait_ended
from tests.fixtures.chromium import Tab
from tests.fixtures.repos import branches, make_remote

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]


def test_a_refused_push_is_allowed_by_a_policy(
    page: Tab, tmp_path: Path, screenshot: Callable[[Tab, str], Path]
) -> None:
    remote = make_remote(tmp_path / "remote.git")
    start(page.page, "WRITE .gitlab-ci.yml: build", file_url(remote))
    wait_ended(page.page, "failed")
    expect(page.page.locator("#job-error")).to_contain_text("ci_files_refused")
    job_page = page.page.url
    page.page.get_by_role("link", name="Repository policies").click()
    # The link names the repository.
    expect(page.page.get_by_label("Repository")).to_have_value(file_url(remote))
    page.page.get_by_label("Change CI files").check()
    assert serious_problems(page.page) == []
    page.page.get_by_role("button", name="Add the policy").click()
    row = page.page.locator("tbody tr")
    expect(row.get_by_role("cell")).to_contain_text([str(remote), "allowed", "refused"])
    screenshot(page, "console-policies")

    page.page.goto(job_page)
    page.page.get_by_role("button", name="Retry").click()
    page.page.wait_for_url(lambda url: url != job_page)
    wait_ended(page.page, "completed")
    assert len(branches(remote)) == 2

    page.page.get_by_role("link", name="Policies", exact=True).click()
    row.get_by_role("link", name=str(remote)).click()
    expect(page.page.get_by_label("Change CI files")).to_be_checked()
    assert serious_problems(page.page) == []
    page.page.get_by_role("button", name="Remove the policy").click()
    expect(page.page.get_by_text("No policies yet.")).to_be_visible()
