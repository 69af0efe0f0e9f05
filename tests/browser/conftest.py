"""Browser contexts and pages on the stack that the tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from myctobot.stack.plan import CHECKOUT
from tests.acceptance.client import Client
from tests.browser.journeys import log_in
from tests.fixtures.chromium import Tab, find_chromium, launch, new_tab
from tests.stacks import RunningStack

SCREENSHOTS = CHECKOUT / ".cache" / "screenshots"


# A browser for the whole session would keep the event loop of Playwright running in this thread.
@pytest.fixture(scope="module")
def browser(stack: RunningStack) -> Iterator[Browser]:
    program = find_chromium()
    assert program is not None
    with sync_playwright() as playwright:
        running = launch(playwright, program)
        yield running
        running.close()


@pytest.fixture(scope="module")
def admin(browser: Browser, stack: RunningStack) -> Iterator[BrowserContext]:
    """Open a browser context and log in to the admin as the user that the stack created."""
    context = browser.new_context(base_url=stack.web_url, viewport={"width": 1280, "height": 900})
    with new_tab(context) as tab:
        tab.page.goto("/admin/")
        tab.page.get_by_label("Username").fill(stack.login)
        tab.page.get_by_label("Password").fill(stack.password)
        tab.page.get_by_role("button", name="Log in").click()
        tab.page.wait_for_url("**/admin/")
    yield context
    context.close()


@pytest.fixture
def tab(admin: BrowserContext) -> Iterator[Tab]:
    with new_tab(admin) as opened:
        yield opened


@pytest.fixture(scope="module")
def member(stack: RunningStack) -> Iterator[Client]:
    with Client(stack) as client:
        yield client


@pytest.fixture
def screenshot() -> Callable[[Tab, str], Path]:
    """Return a function that stores a screenshot of a page for review."""

    def take(tab: Tab, name: str) -> Path:
        path = SCREENSHOTS / f"{name}.png"
        tab.page.screenshot(path=path, full_page=True)
        return path

    return take


@pytest.fixture(scope="module")
def console(browser: Browser, stack: RunningStack) -> Iterator[BrowserContext]:
    """Open a browser context and log in on the console."""
    context = browser.new_context(base_url=stack.web_url, viewport={"width": 1280, "height": 900})
    with new_tab(context) as tab:
        log_in(tab.page, stack)
    yield context
    context.close()


@pytest.fixture
def page(console: BrowserContext) -> Iterator[Tab]:
    with new_tab(console) as opened:
        yield opened
        # No page may report an error in the console of the browser.
        assert opened.complaints == []
