"""Admin of a real stack, as the user sees it whom the stack created."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.acceptance.client import Client
from tests.fixtures.chromium import Tab
from tests.stacks import RunningStack

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]

Screenshot = Callable[[Tab, str], Path]
CANARY = "canary-in-the-browser-0d7a44"
# Every value that Fernet encrypted starts with these characters.
ENCRYPTED = "gAAAAA"


def rows(tab: Tab) -> list[str]:
    return tab.page.locator("#result_list tbody tr").all_inner_texts()


@pytest.fixture(scope="module")
def job_id(member: Client) -> str:
    """Run a job with a secret, and return its id."""
    done = member.run({"prompt": "THINK AND TALK"}, context={"jira_token": CANARY})
    assert done["status"] == "completed", done
    return str(done["id"])


def test_the_front_page_has_our_title_and_loads_no_file_of_another_host(
    tab: Tab, stack: RunningStack, screenshot: Screenshot
) -> None:
    tab.page.goto("/admin/")
    expect(tab.page).to_have_title("Overview | MyCTOBot")
    expect(tab.page.get_by_text("Operators' panel")).to_be_visible()
    screenshot(tab, "admin")
    assert tab.hosts == {urlsplit(stack.web_url).netloc}
    assert tab.complaints == []


def test_a_job_is_listed_and_its_page_shows_no_secret(tab: Tab, job_id: str, screenshot: Screenshot) -> None:
    tab.page.goto("/admin/jobs/job/")
    assert [row for row in rows(tab) if job_id in row and "completed" in row]
    screenshot(tab, "jobs")
    tab.page.get_by_role("link", name=job_id).click()
    expect(tab.page.locator("#content")).to_contain_text(re.compile(r"Status\s+completed"))
    screenshot(tab, "job")
    source = tab.page.content()
    assert "THINK AND TALK" in source
    for forbidden in (CANARY, "sealed", "_hash", "digest"):
        assert forbidden not in source.lower()
    # The page of a job is read-only.
    expect(tab.page.get_by_role("button", name="Save")).to_have_count(0)
    assert tab.complaints == []


def test_the_page_of_a_running_job_shows_no_secret_and_no_encrypted_value(tab: Tab, member: Client) -> None:
    job_id = member.submit({"prompt": "SLOW JOB"}, context={"jira_token": CANARY})
    member.wait_event(job_id, "tool.call")
    tab.page.goto("/admin/jobs/job/")
    tab.page.get_by_role("link", name=job_id).click()
    expect(tab.page.locator("#content")).to_contain_text(re.compile(r"Status\s+running"))
    source = tab.page.content()
    assert CANARY not in source
    assert ENCRYPTED not in source
    member.cancel(job_id)
    member.wait_end(job_id)


def test_an_api_key_is_shown_once(tab: Tab, screenshot: Screenshot) -> None:
    tab.page.goto("/admin/tenants/apikey/add/")
    tab.page.get_by_label("Tenant").select_option(label="default")
    tab.page.get_by_label("Name").fill("from the browser")
    tab.page.get_by_role("button", name="Save", exact=True).click()
    message = tab.page.get_by_text("The key, which is shown only once:").inner_text()
    key = message.rpartition(" ")[2]
    assert key.startswith("mctb_")
    screenshot(tab, "api-key-once")
    tab.page.get_by_role("link", name="from the browser", exact=True).click()
    expect(tab.page.get_by_label("Name")).to_have_value("from the browser")
    screenshot(tab, "api-key")
    source = tab.page.content()
    assert key not in source
    assert hashlib.sha256(key.encode()).hexdigest() not in source
    tab.page.goto("/admin/tenants/apikey/")
    assert key not in tab.page.content()
    assert tab.complaints == []


def test_a_stored_secret_is_entered_and_never_shown(tab: Tab, screenshot: Screenshot) -> None:
    tab.page.goto("/admin/tenants/secret/add/")
    tab.page.get_by_label("Tenant").select_option(label="default")
    tab.page.get_by_label("Name").fill("from-the-browser")
    tab.page.get_by_label("Value").fill(CANARY)
    tab.page.get_by_label("Purpose").select_option("repository")
    tab.page.get_by_label("Hosts").fill("github.com *.example.com")
    tab.page.get_by_role("button", name="Save", exact=True).click()
    tab.page.get_by_role("link", name="from-the-browser").first.click()
    expect(tab.page.get_by_label("Value")).to_have_value("")
    expect(tab.page.get_by_label("Hosts")).to_have_value("github.com *.example.com")
    screenshot(tab, "secret")
    assert CANARY not in tab.page.content()
    assert ENCRYPTED not in tab.page.content()


@pytest.mark.parametrize("path", ["tenants/tenant", "shards/pool", "shards/assignment", "auth/user"])
def test_every_other_list_opens(tab: Tab, path: str, screenshot: Screenshot) -> None:
    answer = tab.page.goto(f"/admin/{path}/")
    assert answer is not None
    assert answer.status == 200
    screenshot(tab, path.replace("/", "-"))
    assert tab.complaints == []
