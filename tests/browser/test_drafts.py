"""Typed text of a form stays in its tab until the new job's page opens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect, sync_playwright

from myctobot.web.security_headers import PAGE_POLICY
from tests.browser.console import ORIGIN, STATIC
from tests.fixtures.chromium import find_chromium, launch

pytestmark = pytest.mark.needs("chromium")

_FRAME: Final = """<!doctype html><html lang="en"><title>Page</title><body>{body}
<script type="module" src="/static/dashboards/page.js"></script></body></html>"""
_FORM: Final = """<form method="post" action="/jobs/new/" data-draft="{owner}"{bound}>
<input type="hidden" name="csrfmiddlewaretoken" value="t-{visit}">
<input type="hidden" name="idempotency_key" value="k-{visit}">
<label>Prompt <textarea name="prompt">{prompt}</textarea></label>
<label><input type="checkbox" name="capabilities" value="git" checked> git</label>
<label><input type="checkbox" name="capabilities" value="fetch"> fetch</label>
<label>Priority <select name="priority"><option>normal<option>high</select></label>
<label>Token <input type="password" name="repo_token"></label><button>Start</button></form>
<form method="post" action="/logout/" data-forgets><button>Log out</button></form>"""
PAGES: Final = {"/login/": "Log in", "/jobs/job_1/": '<main id="job">A job</main>', "/jobs/": "All jobs"}


class World:
    """Pages of a console; ``answer`` is where a sent form leads."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.answer, self.owner, self.bound, self.visits = "/jobs/job_1/", "1.1", "", 0
        self.sent: list[str] = []
        context.route(f"{ORIGIN}/**", self._route)

    def open(self) -> Page:
        self.page.goto(f"{ORIGIN}/jobs/new/")
        return self.page

    def prompt(self, page: Page) -> str:
        return page.get_by_label("Prompt").input_value()

    def _route(self, route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path.startswith("/static/"):
            file = STATIC / path.rpartition("/")[2]
            route.fulfill(body=file.read_bytes(), content_type="text/javascript")
        elif route.request.method == "POST" and self.answer:
            self.sent.append(route.request.post_data or "")
            route.fulfill(status=302, headers={"Location": self.answer})
        elif route.request.method == "POST":
            # Like the static pages of errors, this one has no script.
            route.fulfill(status=403, body='<a href="/jobs/new/">Open the page again</a>', content_type="text/html")
        else:
            body = PAGES.get(path) or self._form()
            headers = {"Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "same-origin"}
            route.fulfill(body=_FRAME.format(body=body), content_type="text/html", headers=headers)

    def _form(self) -> str:
        self.visits += 1
        prompt = "from the server" if self.bound else ""
        return _FORM.format(owner=self.owner, bound=self.bound, visit=self.visits, prompt=prompt)


@pytest.fixture(scope="module")
def context() -> Iterator[BrowserContext]:
    program = find_chromium()
    assert program is not None
    with sync_playwright() as playwright:
        running = launch(playwright, program)
        yield running.new_context()
        running.close()


@pytest.fixture
def world(context: BrowserContext) -> Iterator[World]:
    found = World(context)
    yield found
    found.page.close()
    context.unroute_all()


def write(page: Page) -> None:
    page.get_by_label("Prompt").fill("Fix <b>the</b> test.\nAll of it.")
    page.get_by_label("git").uncheck()
    page.get_by_label("fetch").check()
    page.get_by_label("Priority").select_option("high")
    page.get_by_label("Token").fill("ghp_secret")


def test_an_ended_login_loses_no_text(world: World) -> None:
    page = world.open()
    write(page)
    world.answer = "/login/"
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/login/")
    world.open()
    assert world.prompt(page) == "Fix <b>the</b> test.\nAll of it."
    assert page.get_by_label("fetch").is_checked()
    assert not page.get_by_label("git").is_checked()
    assert page.get_by_label("Priority").input_value() == "high"
    expect(page.get_by_role("status")).to_contain_text("is here again")
    # The second form has the key of the first, and a token of its own.
    assert page.locator("[name=idempotency_key]").input_value() == "k-1"
    assert page.locator("[name=csrfmiddlewaretoken]").input_value() == "t-2"


def test_a_secret_is_not_kept(world: World) -> None:
    page = world.open()
    write(page)
    world.answer = "/login/"
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/login/")
    assert "ghp_secret" not in page.evaluate("JSON.stringify({...sessionStorage})")
    world.open()
    assert page.get_by_label("Token").input_value() == ""


def test_an_error_page_loses_no_text(world: World) -> None:
    page = world.open()
    write(page)
    world.answer = ""
    page.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="Open the page again").click()
    # A click does not wait for the scripts of the page that it opens.
    expect(page.get_by_label("Prompt")).to_have_value("Fix <b>the</b> test.\nAll of it.")


def test_a_form_that_started_its_job_is_empty_the_next_time(world: World) -> None:
    page = world.open()
    write(page)
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/jobs/job_1/")
    world.open()
    assert world.prompt(page) == ""
    expect(page.locator(".draft")).to_have_count(0)


def test_another_person_in_the_tab_gets_nothing(world: World) -> None:
    page = world.open()
    write(page)
    world.answer = "/login/"
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/login/")
    world.owner = "2.1"
    world.open()
    assert world.prompt(page) == ""


def test_a_logout_forgets_it(world: World) -> None:
    page = world.open()
    write(page)
    page.wait_for_function("() => sessionStorage.length > 0")
    world.answer = "/login/"
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login/")
    assert page.evaluate("sessionStorage.length") == 0


def test_a_form_with_errors_keeps_what_the_server_put_into_it(world: World) -> None:
    page = world.open()
    write(page)
    page.wait_for_function("() => sessionStorage.length > 0")
    world.bound = " data-bound"
    world.open()
    assert world.prompt(page) == "from the server"


def test_the_user_can_start_over(world: World) -> None:
    page = world.open()
    write(page)
    page.wait_for_function("() => sessionStorage.length > 0")
    world.open()
    page.get_by_role("button", name="Start over").click()
    assert world.prompt(page) == ""
    assert page.evaluate("sessionStorage.length") == 0


def test_a_part_of_the_page_that_changes_brings_no_older_text_back(world: World) -> None:
    page = world.open()
    page.get_by_label("Prompt").fill("old")
    while "old" not in page.evaluate("JSON.stringify(sessionStorage)"):
        page.wait_for_timeout(50)
    # The estimate of the form may arrive before the next keystroke is kept.
    page.evaluate(
        """() => {
            document.querySelector("textarea").value = "older, and new";
            document.dispatchEvent(new CustomEvent("htmx:afterSwap"));
        }"""
    )
    assert world.prompt(page) == "older, and new"
    expect(page.locator(".draft")).to_have_count(0)
