"""Documentation pages of the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.fixtures.chromium import Tab, new_tab
from tests.stacks import RunningStack

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium")]

OPERATIONS = [
    ("GET", "/api/v1/jobs"),
    ("POST", "/api/v1/jobs"),
    ("POST", "/api/v1/jobs/estimate"),
    ("GET", "/api/v1/jobs/{job_id}"),
    ("POST", "/api/v1/jobs/{job_id}/cancel"),
    ("POST", "/api/v1/jobs/{job_id}/retry"),
    ("POST", "/api/v1/jobs/{job_id}/push"),
    ("GET", "/api/v1/jobs/{job_id}/bundle"),
    ("GET", "/api/v1/jobs/{job_id}/patch"),
    ("GET", "/api/v1/queues"),
    ("POST", "/api/v1/queues/pause"),
    ("POST", "/api/v1/queues/resume"),
    ("POST", "/api/v1/shards/{name}/drain"),
    ("POST", "/api/v1/shards/{name}/resume"),
    ("GET", "/api/v1/suspensions"),
    ("GET", "/api/v1/repository-policies"),
    ("PUT", "/api/v1/repository-policies"),
    ("DELETE", "/api/v1/repository-policies"),
    ("GET", "/api/v1/callback-secret"),
    ("POST", "/api/v1/callback-secret"),
    ("GET", "/api/v1/jobs/{job_id}/callbacks"),
    ("POST", "/api/v1/jobs/{job_id}/callbacks/{callback_id}/resend"),
    ("GET", "/api/v1/jobs/{job_id}/events"),
    ("GET", "/api/v1/jobs/{job_id}/download"),
    ("POST", "/api/v1/jobs/{job_id}/ticket"),
    ("GET", "/api/v1/jobs/{job_id}/stream"),
    ("GET", "/api/v1/audit"),
    ("GET", "/api/v1/pools"),
    ("GET", "/api/v1/shard-templates"),
    ("GET", "/api/v1/shards"),
    ("POST", "/api/v1/shards"),
    ("GET", "/api/v1/shards/preview"),
    ("GET", "/api/v1/shards/{name}"),
    ("PATCH", "/api/v1/shards/{name}"),
    ("DELETE", "/api/v1/shards/{name}"),
    ("POST", "/api/v1/shards/{name}/activate"),
    ("GET", "/api/v1/shards/{name}/assignments"),
    ("PUT", "/api/v1/shards/{name}/assignments"),
    ("POST", "/api/v1/shards/{name}/enrolment"),
    ("GET", "/api/v1/shards/{name}/logs"),
    ("GET", "/api/v1/shards/{name}/operations"),
    ("POST", "/api/v1/shards/{name}/operations"),
    ("GET", "/api/v1/shards/{name}/samples"),
    ("POST", "/api/v1/shards/{name}/test"),
    ("GET", "/api/v1/secrets"),
    ("POST", "/api/v1/secrets"),
    ("GET", "/api/v1/secrets/{name}"),
    ("PATCH", "/api/v1/secrets/{name}"),
    ("DELETE", "/api/v1/secrets/{name}"),
]


@pytest.fixture
def visitor(browser: Browser, stack: RunningStack) -> Iterator[Tab]:
    context = browser.new_context(base_url=stack.web_url, viewport={"width": 1280, "height": 900})
    with new_tab(context) as opened:
        yield opened
    context.close()


def test_the_docs_show_every_operation_and_load_no_file_of_another_host(
    visitor: Tab, stack: RunningStack, screenshot: Callable[[Tab, str], Path]
) -> None:
    visitor.page.goto("/api/docs/")
    shown = visitor.page.locator(".opblock-summary")
    expect(shown).to_have_count(len(OPERATIONS))
    listed = [
        (entry.locator(".opblock-summary-method").inner_text(), entry.locator("[data-path]").get_attribute("data-path"))
        for entry in shown.all()
    ]
    assert sorted(listed) == sorted(OPERATIONS)
    screenshot(visitor, "docs")
    assert visitor.hosts == {urlsplit(stack.web_url).netloc}
    assert visitor.complaints == []


def test_an_operation_explains_its_fields(visitor: Tab, screenshot: Callable[[Tab, str], Path]) -> None:
    visitor.page.goto("/api/docs/")
    create = visitor.page.locator('.opblock-post:has([data-path="/api/v1/jobs"])')
    create.locator(".opblock-summary").click()
    expect(create.locator(".opblock-body")).to_contain_text("callback_url")
    screenshot(visitor, "docs-operation")
    assert visitor.complaints == []
