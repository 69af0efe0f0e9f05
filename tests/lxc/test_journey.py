"""Life of a shard from the panel's "add a shard" to a pushed branch and its removal, with the real agent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import SCREENSHOTS
from tests.fixtures.chromium import find_chromium, launch, new_tab
from tests.fixtures.repos import branches, git

from .inside import inside, output
from .world import World

pytestmark = pytest.mark.needs("chromium")

SHARD = "one"
LONG_MS = 60_000


@pytest.fixture(scope="module")
def world(general: World) -> World:
    return general


@pytest.fixture(scope="module")
def page(world: World) -> Iterator[Page]:
    """Yield a browser page that is logged in to the panel."""
    program = find_chromium()
    assert program is not None
    with sync_playwright() as playwright:
        browser = launch(playwright, program)
        context = browser.new_context(base_url=world.stack.web_url, viewport={"width": 1400, "height": 900})
        with new_tab(context) as tab:
            tab.page.goto("/admin/")
            tab.page.get_by_label("Username").fill(world.stack.login)
            tab.page.get_by_label("Password").fill(world.stack.password)
            tab.page.get_by_role("button", name="Log in").click()
            tab.page.wait_for_url("**/admin/")
            yield tab.page
        browser.close()


def open_shard(page: Page) -> None:
    page.goto(f"/admin/shards/shard/?q={SHARD}")
    page.locator("#result_list").get_by_role("link", name=SHARD, exact=True).click()
    expect(page.locator("#live")).to_be_visible()


def press(page: Page, name: str) -> None:
    open_shard(page)
    page.locator("#live").get_by_role("link", name=re.compile(rf"{name}$")).click()


def await_state(page: Page, state: str) -> None:
    expect(page.locator("#shard-state")).to_have_text(state, timeout=LONG_MS, ignore_case=True)


def test_a_shard_is_added_in_the_panel_and_is_ready(world: World, page: Page) -> None:
    page.goto("/admin/shards/shard/add/")
    page.get_by_role("link", name=re.compile("^general")).click()
    page.get_by_label("Name").fill(SHARD)
    page.get_by_label("Provider").select_option("lxc")
    page.get_by_role("button", name="Save and provision").click()
    await_state(page, "ready")
    page.screenshot(path=SCREENSHOTS / "lxc-provisioned.png", full_page=True)
    ref = world.shard(SHARD)["ref"]
    assert output(world.maker, ref, "systemctl", "is-active", "claude-shard") == "active"


def test_the_connectivity_test_of_a_new_shard_succeeds(page: Page) -> None:
    press(page, "Test connectivity")
    expect(page.get_by_text("The shard answers, and its configuration matches.")).to_be_visible()


def test_a_job_runs_in_the_shard_and_pushes_its_branch(world: World) -> None:
    path, url = world.remote("job.git")
    task = {"repo_url": url, "base_branch": "main", "branch": "feature/one", "prompt": "WRITE hello.txt: hello"}
    job = world.client.run(task)
    assert job["status"] == "completed", job
    assert job["attempts"][-1]["shard"] == SHARD
    assert git(path, "show", "feature/one:hello.txt") == "hello"
    # A job without isolation would have a warning.
    assert not [event for event in world.client.events(job["id"]) if event["kind"] == "job.warning"]


def test_restore_repairs_a_damaged_container(world: World, page: Page) -> None:
    press(page, "Snapshot")
    page.get_by_label(re.compile("name|label", re.IGNORECASE)).last.fill("good")
    page.get_by_role("button", name=re.compile(f"Snapshot {SHARD}")).click()
    await_state(page, "ready")
    expect(page.locator("#past")).to_contain_text("shard.snapshot_done", timeout=LONG_MS)
    ref = world.shard(SHARD)["ref"]
    output(world.maker, ref, "rm", "-rf", "/opt/claude-shard")
    output(world.maker, ref, "systemctl", "kill", "--signal=KILL", "claude-shard")
    assert inside(world.maker, ref, "test", "-e", "/opt/claude-shard").returncode != 0
    world.operate("restore", SHARD, "good", "--force")
    path, url = world.remote("again.git")
    job = world.client.run({"repo_url": url, "branch": "again", "prompt": "WRITE a.txt: again"})
    assert job["status"] == "completed", job
    assert "again" in branches(path)


def test_destroy_leaves_nothing_behind(world: World, page: Page) -> None:
    ref = world.shard(SHARD)["ref"]
    press(page, "Destroy")
    page.get_by_label("The shard's name").fill(SHARD)
    page.get_by_role("button", name=f"Destroy {SHARD}").click()
    await_state(page, "gone")
    page.screenshot(path=SCREENSHOTS / "lxc-destroyed.png", full_page=True)
    assert world.listed(SHARD)["state"] == "gone"
    containers = world.maker.host.path / "containers"
    assert [found.name for found in containers.iterdir() if not found.name.startswith(".")] == []
    assert ref not in Path("/proc/mounts").read_text()
    assert f"shard-{SHARD}" not in world.manage("broker_access", "show").stdout
