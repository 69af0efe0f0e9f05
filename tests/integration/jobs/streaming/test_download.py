"""Download of the whole log of a job."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from jobs.models import Job
from myctobot.tenants.models import Role, Tenant
from tests.factories.control_plane import Api, Runner, make_job, make_tenant, running_job

pytestmark = pytest.mark.django_db(transaction=True)


def body(answer: Any) -> str:
    async def read() -> bytes:
        return b"".join([part async for part in answer.streaming_content])

    return asyncio.run(read()).decode()


@pytest.fixture
def running(tenant: Tenant, key: str) -> tuple[Job, Runner]:
    return running_job(tenant, key)


def test_the_file_has_one_line_for_each_event(tenant: Tenant, running: tuple[Job, Runner]) -> None:
    job, runner = running
    for _ in range(3):
        runner.events(*["two\nlines and a \u2028"] * 400)
    answer = Api.of(tenant, Role.VIEWER).get(f"/jobs/{job.public_id}/download")
    assert answer.headers["Content-Type"] == "application/jsonl"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{job.public_id}.jsonl"'
    lines = body(answer).split("\n")
    assert lines.pop() == ""
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 1201))


def test_a_job_without_events_is_an_empty_file(tenant: Tenant, key: str) -> None:
    answer = Api.of(tenant).get(f"/jobs/{make_job(tenant).public_id}/download")
    assert answer.status_code == 200
    assert body(answer) == ""


def test_the_log_of_another_tenant_is_unknown(running: tuple[Job, Runner]) -> None:
    assert Api.of(make_tenant("other")).get(f"/jobs/{running[0].public_id}/download").status_code == 404
