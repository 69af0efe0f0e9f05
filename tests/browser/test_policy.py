"""No main page violates its Content-Security-Policy, so that no page needs a weaker one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.acceptance.client import Client
from tests.fixtures.chromium import Tab, new_tab
from tests.stacks import RunningStack

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]

# The event also reports what Chromium's console leaves out, such as a refused expression that a script catches.
REPORT = """document.addEventListener("securitypolicyviolation", (event) => reportViolation(
    `${location.pathname}: ${event.effectiveDirective} refuses ${event.blockedURI} ${event.sample}`))"""
VIOLATE = """() => new Promise((done) => {
    document.addEventListener("securitypolicyviolation", () => setTimeout(done));
    document.body.insertAdjacentHTML("beforeend", "<style>p { color: red }</style>");
})"""
PANEL_PAGES = ["", "preview/", "second-factor/", "password_change/", "jsi18n/"]
TENANT_PAGES = ["/jobs/", "/jobs/new/", "/secrets/", "/repository-policies/"]
CONSOLE_PAGES = [*TENANT_PAGES, "/ops/", "/ops/queues/", "/ops/operations/", "/ops/decisions/"]
ANONYMOUS_PAGES = ["/login/", "/admin/login/", "/api/docs/", "/nothing/here", "/.well-known/security.txt"]


def watch(context: BrowserContext) -> list[str]:
    """Return the list to which every page of a context reports its violations."""
    found: list[str] = []
    context.expose_function("reportViolation", lambda text: found.append(text))
    context.add_init_script(REPORT)
    return found


@pytest.fixture
def visitor(browser: Browser, stack: RunningStack) -> Iterator[Tab]:
    context = browser.new_context(base_url=stack.web_url, viewport={"width": 1280, "height": 900})
    with new_tab(context) as opened:
        yield opened
    context.close()


@pytest.fixture
def operator(browser: Browser, admin: BrowserContext, stack: RunningStack) -> Iterator[Tab]:
    """Open a tab with the session of the operator, in a context of its own."""
    context = browser.new_context(
        base_url=stack.web_url, viewport={"width": 1280, "height": 900}, storage_state=admin.storage_state()
    )
    with new_tab(context) as opened:
        yield opened
    context.close()


def open_page(page: Page, path: str) -> None:
    answer = page.goto(path)
    assert answer is not None
    assert "default-src" in answer.headers["content-security-policy"], path
    assert answer.headers["permissions-policy"], path
    assert answer.headers["referrer-policy"] == "same-origin", path
    page.wait_for_load_state("networkidle")


def links(page: Page, selector: str) -> list[str]:
    found: Any = page.eval_on_selector_all(selector, "all => all.map((one) => one.pathname)")
    return sorted({str(path) for path in found if path.startswith("/admin/")})


def test_the_checks_find_a_violation(visitor: Tab) -> None:
    found = watch(visitor.page.context)
    open_page(visitor.page, "/login/")
    visitor.page.evaluate(VIOLATE)
    assert found == ["/login/: style-src-elem refuses inline "]


@pytest.mark.parametrize("path", ANONYMOUS_PAGES)
def test_a_page_without_a_login(visitor: Tab, path: str) -> None:
    found = watch(visitor.page.context)
    open_page(visitor.page, path)
    if path == "/api/docs/":
        cancel = visitor.page.locator('.opblock-post:has([data-path="/api/v1/jobs/{job_id}/cancel"])')
        cancel.locator(".opblock-summary").click()
        expect(cancel.locator(".opblock-body")).to_contain_text("job_id")
        cancel.get_by_role("button", name="Try it out").click()
        expect(cancel.get_by_role("button", name="Execute")).to_be_visible()
    assert found == []


def test_the_pages_of_the_console(operator: Tab, member: Client) -> None:
    found = watch(operator.page.context)
    job_id = member.run({"prompt": "THINK AND TALK"})["id"]
    for path in [*CONSOLE_PAGES, "/ops/shards/local/", f"/jobs/{job_id}/", f"/jobs/{job_id}/retry/"]:
        open_page(operator.page, path)
    assert (found, operator.complaints) == ([], [])


def test_the_pages_of_the_panel(operator: Tab) -> None:
    page = operator.page
    found = watch(page.context)
    for path in PANEL_PAGES:
        open_page(page, f"/admin/{path}")
    open_page(page, "/admin/")
    lists = links(page, "nav a, aside a, #nav-sidebar a")
    assert "/admin/shards/shard/" in lists
    for path in lists:
        open_page(page, path)
        rows, tools = links(page, "#result_list tbody th a"), links(page, f"a[href^='{path}add/']")
        for inner in [*rows[:1], *tools]:
            open_page(page, inner)
        for inner in links(page, "a[href$='/history/'], a[href$='/delete/']"):
            open_page(page, inner)
    assert (found, operator.complaints) == ([], [])


def test_the_scripts_of_the_panel_still_work(operator: Tab) -> None:
    page = operator.page
    found = watch(page.context)
    open_page(page, "/admin/shards/shard/")
    # Alpine shows the actions as soon as a row is selected, with a width that it computes.
    expect(page.locator("#changelist-actions")).to_be_hidden()
    page.locator("#result_list tbody input.action-select").first.check()
    expect(page.locator("#changelist-actions")).to_be_visible()
    assert "width" in str(page.locator("#changelist-actions").get_attribute("style"))
    # The theme has our colours, without a style element.
    colour = "getComputedStyle(document.documentElement).getPropertyValue('--color-primary-600')"
    assert page.evaluate(colour) == "oklch(54.6% .245 262.881)"
    assert page.locator("style").count() == 0
    assert (found, operator.complaints) == ([], [])
