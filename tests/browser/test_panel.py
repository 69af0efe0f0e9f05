"""Operators' panel of a real stack: pages and actions of an operator, with their audit entries."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.journeys import serious_problems
from tests.fixtures.chromium import Tab

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]

Screenshot = Callable[[Tab, str], Path]
LIST = "/admin/shards/shard/"


def open_shard(page: Page, name: str) -> None:
    page.goto(f"{LIST}?q={name}")
    page.locator("#result_list").get_by_role("link", name=name, exact=True).click()
    expect(page.locator("#live")).to_be_visible()


def press(page: Page, name: str) -> None:
    page.locator("#live").get_by_role("link", name=re.compile(rf"{name}$")).click()


def test_the_list_shows_the_condition_of_each_shard(tab: Tab, screenshot: Screenshot) -> None:
    tab.page.goto(LIST)
    row = tab.page.locator("#result_list tbody tr", has_text="local").first
    for fact in ("ready", "of 2", "%", "GB", "s ago"):
        expect(row).to_contain_text(fact, ignore_case=True)
    assert serious_problems(tab.page) == []
    screenshot(tab, "shards")
    assert tab.complaints == []


def test_the_page_of_a_shard_has_its_log_and_its_states(tab: Tab, screenshot: Screenshot) -> None:
    open_shard(tab.page, "local")
    expect(tab.page.locator("#log .mc-log")).to_contain_text("shard local takes jobs from cap.filesystem+git")
    tab.page.get_by_role("button", name="300 lines").click()
    expect(tab.page.get_by_role("button", name="Refresh 300 lines")).to_be_visible()
    expect(tab.page.locator("#states")).to_contain_text("ready")
    screenshot(tab, "shard")
    assert tab.complaints == []


def test_connectivity_is_tested_and_compared(tab: Tab, screenshot: Screenshot) -> None:
    open_shard(tab.page, "local")
    press(tab.page, "Test connectivity")
    expect(tab.page.get_by_text("The shard answers, and its configuration matches.")).to_be_visible()
    expect(tab.page.get_by_text(re.compile(r"^\d+ ms$"))).to_be_visible()
    expect(tab.page.get_by_role("row", name="capabilities filesystem, git filesystem, git same")).to_be_visible()
    assert serious_problems(tab.page) == []
    screenshot(tab, "shard-test")
    assert tab.complaints == []


def test_the_audit_log_has_a_drain_with_its_reason_and_its_end(tab: Tab, screenshot: Screenshot) -> None:
    open_shard(tab.page, "local")
    press(tab.page, "Drain")
    tab.page.get_by_label("Reason").fill("kernel update")
    assert serious_problems(tab.page) == []
    screenshot(tab, "shard-drain")
    tab.page.get_by_role("button", name="Drain local").click()
    expect(tab.page.locator("#shard-state")).to_have_text("draining", ignore_case=True)
    expect(tab.page.locator("#live")).to_contain_text("Drained by admin since")
    screenshot(tab, "shard-drained")
    press(tab.page, "Resume")
    tab.page.get_by_role("button", name="Resume local").click()
    expect(tab.page.locator("#shard-state")).to_have_text("ready", ignore_case=True)
    tab.page.goto("/admin/tenants/auditentry/?q=shard/local")
    row = tab.page.locator("#result_list tbody tr", has_text="shard.drained").first
    for fact in ("admin", "shard/local", "reason: kernel update"):
        expect(row).to_contain_text(fact)
    screenshot(tab, "audit-log")
    assert tab.complaints == []


def test_a_shard_is_created_from_a_template_and_destroyed(tab: Tab, screenshot: Screenshot) -> None:
    page = tab.page
    page.goto(f"{LIST}add/")
    page.get_by_role("link", name=re.compile("^general")).click()
    expect(page.get_by_label("Capabilities")).to_have_value("filesystem,git")
    page.get_by_label("Name").fill("from-panel")
    page.get_by_label("Provider").select_option("process")
    screenshot(tab, "shard-add")
    page.get_by_role("button", name="Save and provision").click()
    expect(page.locator("#live")).to_contain_text("wait for its enrolment")
    screenshot(tab, "shard-provisioning")
    # The page changes without a reload.
    expect(page.locator("#shard-state")).to_have_text("ready", timeout=60_000, ignore_case=True)
    expect(page.locator("#past")).to_contain_text("shard.enrolled")
    expect(page.locator("#log .mc-log")).to_contain_text("shard from-panel takes jobs from")
    screenshot(tab, "shard-provisioned")
    press(page, "Destroy")
    page.get_by_label("The shard's name").fill("something-else")
    page.get_by_role("button", name="Destroy from-panel").click()
    expect(page.get_by_text("That is not the shard's name")).to_be_visible()
    screenshot(tab, "shard-destroy")
    page.get_by_label("The shard's name").fill("from-panel")
    page.get_by_role("button", name="Destroy from-panel").click()
    expect(page.locator("#shard-state")).to_have_text("gone", timeout=60_000, ignore_case=True)
    page.get_by_role("link", name="Delete shard").click()
    page.get_by_role("button", name=re.compile("Yes")).click()
    expect(page.locator("#result_list")).not_to_contain_text("from-panel")
    assert tab.complaints == []


def test_the_preview_shows_the_queue_of_a_job(tab: Tab, screenshot: Screenshot) -> None:
    tab.page.goto(LIST)
    tab.page.locator("#main").get_by_role("link", name="Where would a job go?").click()
    tab.page.get_by_label("Tenant").select_option("default")
    tab.page.get_by_label("Capabilities that the job requests").fill("git")
    tab.page.get_by_role("button", name="Show the order").click()
    expect(tab.page.locator("#verdict")).to_have_text("The job goes to the queue cap.filesystem+git at once.")
    expect(tab.page.locator("#places")).to_contain_text("over-qualified by 1: filesystem")
    assert serious_problems(tab.page) == []
    screenshot(tab, "preview")
    assert tab.complaints == []


def test_charts_appear_with_the_first_samples(tab: Tab, screenshot: Screenshot) -> None:
    deadline = 90
    for _ in range(deadline):
        open_shard(tab.page, "local")
        if tab.page.locator("#charts polyline").count() >= 4:
            break
        tab.page.wait_for_timeout(1000)
    expect(tab.page.get_by_role("img", name=re.compile("^CPU: "))).to_be_visible()
    screenshot(tab, "shard-charts")
    assert tab.complaints == []
