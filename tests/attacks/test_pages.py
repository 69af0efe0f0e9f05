"""Attacks by a tenant on the memory of the web process: large pages and bodies with many fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from myctobot.contract.limits import MAX_PROMPT_BYTES, MAX_REQUEST_BYTES
from myctobot.tenants.models import Role, Tenant
from tests.factories.control_plane import Api, error_of, make_job, make_shard, make_tenant, running_job

KB = 1024
# What surrounds the rows of a page.
FRAME = 1 * KB


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant()


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api.of(tenant, Role.VIEWER)


def test_a_page_of_events_has_512_kib(api: Api, tenant: Tenant) -> None:
    _, key = make_shard()
    job, runner = running_job(tenant, key)
    for _ in range(12):
        assert runner.events(*["x" * 60 * KB] * 3).status_code == 200
    seen, page = [], {"next_after": 0, "more": True}
    while page["more"]:
        answer = api.get(f"/jobs/{job.public_id}/events?limit=1000&after={page['next_after']}")
        assert len(answer.content) <= 512 * KB + FRAME
        page = answer.json()
        seen += [event["seq"] for event in page["events"]]
    assert seen == list(range(1, 37))


def large_jobs(tenant: Tenant, count: int) -> list[str]:
    task = {"type": "prompt", "prompt": "x" * MAX_PROMPT_BYTES}
    return [make_job(tenant, task=task).public_id for _ in range(count)]


def walk(api: Api, page: dict[str, Any], link: str) -> list[dict[str, Any]]:
    """Return a page and all pages behind its links of this name; check the size of each."""
    pages = [page]
    while address := pages[-1][link]:
        answer = api.http.get(address, headers=api.headers)
        assert len(answer.content) <= 2048 * KB + FRAME
        pages.append(answer.json())
    return pages


def test_a_page_of_jobs_has_2_mib_in_both_directions(api: Api, tenant: Tenant) -> None:
    make_shard()
    made = large_jobs(tenant, 20)
    first = api.get("/jobs?limit=200")
    assert len(first.content) <= 2048 * KB + FRAME
    forwards = walk(api, first.json(), "next")
    assert [job["id"] for page in forwards for job in page["results"]] == made[::-1]
    back = walk(api, forwards[-1], "previous")
    assert [job["id"] for page in reversed(back) for job in page["results"]] == made[::-1]


@pytest.mark.parametrize("nested", [False, True])
def test_twenty_of_70_000_unknown_fields_are_named(tenant: Tenant, nested: bool) -> None:
    unknown = {f"{number:05}": 1 for number in range(70_000)}
    body = json.dumps({"task": unknown} if nested else unknown).encode()
    assert len(body) <= MAX_REQUEST_BYTES
    answer = Api.of(tenant).post("/jobs", body)
    fields = error_of(answer)["fields"]
    named = [name for name, problems in fields.items() if problems[0].startswith("Unknown field")]
    assert (answer.status_code, len(named)) == (400, 20)
    assert any("Has 69980 more unknown fields." in problems for problems in fields.values())
    assert len(answer.content) < 10 * KB
