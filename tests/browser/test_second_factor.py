"""A user of the panel sets up a second factor and logs in with it, in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from myctobot.stack.plan import CHECKOUT
from tests.browser.journeys import serious_problems
from tests.fixtures.chromium import Tab, new_tab
from tests.stacks import RunningStack, bare_environment

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]

PASSWORD = "only-for-this-test"
USER = """
from django.contrib.auth.models import User
User.objects.create_superuser("tess", password="only-for-this-test")
"""
STEP_S = 30


def manage(stack: RunningStack, *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    environment = bare_environment(stack.home)
    return subprocess.run(
        command, cwd=CHECKOUT, env=environment, check=True, timeout=60, capture_output=True, text=True
    ).stdout


@pytest.fixture
def visitor(browser: Browser, stack: RunningStack) -> Iterator[Tab]:
    context = browser.new_context(base_url=stack.web_url, viewport={"width": 1280, "height": 900})
    with new_tab(context) as opened:
        yield opened
    context.close()


def log_in(page: Page, code: str = "") -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill("tess")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Log in").click()


def log_out(page: Page) -> None:
    # The next page asks for a login again.
    page.context.clear_cookies()


def test_from_the_set_up_to_the_reset(
    visitor: Tab, stack: RunningStack, screenshot: Callable[[Tab, str], Path]
) -> None:
    page = visitor.page
    manage(stack, "shell", "--verbosity", "0", "-c", USER)
    log_in(page)
    page.wait_for_url("**/admin/")
    page.goto("/admin/second-factor/")
    secret = page.locator("#secret").inner_text()
    # The browser has drawn the image.
    expect(page.get_by_alt_text("QR code of the key")).to_have_js_property("complete", True)
    assert page.get_by_alt_text("QR code of the key").evaluate("image => image.naturalWidth") > 100
    screenshot(visitor, "second-factor")
    assert serious_problems(page) == []
    page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Set up").click()
    codes = re.findall(r"[a-z2-7]{5}-[a-z2-7]{5}-[a-z2-7]{5}", page.locator("#recovery").inner_text())
    assert len(codes) == 10
    screenshot(visitor, "recovery-codes")

    log_out(page)
    log_in(page)
    expect(page.get_by_role("alert")).to_contain_text("The user name, the password or the code is wrong.")
    screenshot(visitor, "panel-login")
    assert serious_problems(page) == []
    # The set-up has used the current code up, and the next one is valid already.
    log_in(page, pyotp.TOTP(secret).at(time.time() + STEP_S))
    page.wait_for_url("**/admin/")
    log_out(page)
    log_in(page, codes[0])
    page.wait_for_url("**/admin/")
    page.goto("/admin/second-factor/")
    expect(page.locator("#content")).to_contain_text("9 recovery codes are left")

    assert "Removed." in manage(stack, "reset_totp", "tess")
    log_out(page)
    log_in(page)
    page.wait_for_url("**/admin/")
    assert visitor.complaints == []
