"""Flower as ``make up`` starts it: read-only pages behind a password."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, HttpCredentials, expect, sync_playwright

from myctobot.stack.plan import FLOWER_LOGIN
from tests.acceptance.client import Client
from tests.browser.conftest import SCREENSHOTS
from tests.fixtures.chromium import find_chromium, launch, new_tab
from tests.stacks import SCRIPTS, RunningStack, running_stack

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]
PAGES = ("/", "/workers", "/workers?json=1", "/worker/x@y", "/tasks", "/tasks/datatable", "/task/x", "/broker")
# These addresses send tasks, stop workers, or show data without a password.
NOT_SERVED = (
    "/metrics", "/api/workers", "/api/tasks", "/api/queues/length", "/api/task/info/x", "/api/worker/shutdown/x",
    "/api/task/async-apply/shard.execute", "/api/task/send-task/shard.execute", "/api/task/revoke/x",
)  # fmt: skip


@pytest.fixture(scope="module")
def flowering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    home = tmp_path_factory.mktemp("flower") / "home"
    with running_stack(home, "--with", "flower", environ={"GATEWAY_SCRIPTS": str(SCRIPTS)}) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = find_chromium()
    assert program is not None
    with sync_playwright() as playwright:
        running = launch(playwright, program)
        yield running
        running.close()


def url_of(stack: RunningStack) -> str:
    return str(json.loads((stack.home / "stack.json").read_text())["urls"]["flower"])


def password_of(stack: RunningStack) -> str:
    secrets = stack.home / "secrets.json"
    assert secrets.stat().st_mode & 0o777 == 0o600
    return str(json.loads(secrets.read_text())["flower_password"])


def status_of(stack: RunningStack, method: str, path: str, password: str | None) -> int:
    auth = (FLOWER_LOGIN, password) if password is not None else None
    return httpx.request(method, url_of(stack) + path, auth=auth, timeout=10, trust_env=False).status_code


def test_every_page_requires_the_password(flowering: RunningStack) -> None:
    assert url_of(flowering).startswith("http://127.0.0.1:")
    for path in PAGES:
        assert status_of(flowering, "GET", path, None) == 401, path
        assert status_of(flowering, "GET", path, "wrong") == 401, path
    assert status_of(flowering, "GET", "/workers", password_of(flowering)) == 200


@pytest.mark.parametrize("path", NOT_SERVED)
def test_no_address_that_acts_is_served_even_with_the_password(flowering: RunningStack, path: str) -> None:
    for method in ("GET", "POST"):
        assert status_of(flowering, method, path, password_of(flowering)) in (404, 405)


def test_the_password_is_in_no_argument_list(flowering: RunningStack) -> None:
    password = password_of(flowering)
    arguments = Path(f"/proc/{flowering.pid_of('flower')}/cmdline").read_text()
    assert "myctobot.flower" in arguments
    assert password not in arguments
    assert f"{FLOWER_LOGIN} / {password}" in flowering.output()


def test_pages_show_the_worker_of_a_shard_and_its_task(flowering: RunningStack, chromium: Browser) -> None:
    with Client(flowering) as member:
        job_id = member.submit({"prompt": "THINK AND TALK"})
        member.wait_end(job_id)
    credentials = HttpCredentials(username=FLOWER_LOGIN, password=password_of(flowering))
    context = chromium.new_context(http_credentials=credentials, base_url=url_of(flowering))
    with new_tab(context) as tab:
        tab.page.goto("/workers")
        row = tab.page.locator("tr", has_text="shard-local@")
        expect(row).to_contain_text("Online")
        tab.page.screenshot(path=SCREENSHOTS / "flower.png")
        tab.page.goto("/tasks")
        expect(tab.page.locator("tr", has_text="shard.execute").first).to_contain_text("SUCCESS")
    context.close()
