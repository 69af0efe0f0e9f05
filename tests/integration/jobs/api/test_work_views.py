"""Downloads of kept work, and the call that pushes it again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.models import Job
from myctobot.tenants.models import Role, Tenant
from tests.factories.control_plane import Api, error_of, make_job, make_tenant
from tests.factories.kept_work import BUNDLE, HEAD, PATCH, job_with_work

# The parts are read in other threads.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(tenant: Tenant, key: str) -> Job:
    return job_with_work(tenant, key)


def content(answer: Any) -> bytes:
    async def read() -> bytes:
        return b"".join([piece async for piece in answer.streaming_content])

    return asyncio.run(read())


def test_members_and_viewers_download_the_files(job: Job, tenant: Tenant) -> None:
    for role in (Role.VIEWER, Role.MEMBER):
        for name, expected in (("bundle", BUNDLE), ("patch", PATCH)):
            answer: Any = Api.of(tenant, role).get(f"/jobs/{job.public_id}/{name}")
            assert (answer.status_code, content(answer)) == (200, expected)
            assert answer.headers["Content-Disposition"] == f'attachment; filename="{job.public_id}.{name}"'
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_outsiders_learn_nothing(job: Job) -> None:
    api = Api.of(make_tenant("other"))
    for name in ("bundle", "patch"):
        assert error_of(api.get(f"/jobs/{job.public_id}/{name}"))["code"] == "unknown_job"
    assert error_of(api.post(f"/jobs/{job.public_id}/push"))["code"] == "unknown_job"


def test_a_viewer_pushes_nothing(job: Job, tenant: Tenant) -> None:
    assert Api.of(tenant, Role.VIEWER).post(f"/jobs/{job.public_id}/push").status_code == 403


def test_a_push_is_a_new_job_and_can_be_repeated(job: Job, tenant: Tenant) -> None:
    api, path = Api.of(tenant), f"/jobs/{job.public_id}/push"
    headers = {"Idempotency-Key": "once"}
    first, again = (api.post(path, **headers) for _ in range(2))
    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    assert (first.json()["retry_of"], first.json()["work"]["head"]) == (job.public_id, HEAD)
    assert list(error_of(api.post(path, {"anthropic_api_key": "sk-ant-x"}))["fields"]) == ["anthropic_api_key"]


def test_the_job_describes_its_work(job: Job, tenant: Tenant) -> None:
    shown = Api.of(tenant).get(f"/jobs/{job.public_id}").json()["work"]
    assert shown.pop("expires_at") is not None
    assert shown == {"head": HEAD, "ready": True, "bundle_bytes": len(BUNDLE), "patch_bytes": len(PATCH)}


def test_a_job_without_work_has_no_file(tenant: Tenant, key: str) -> None:
    job = make_job(tenant)
    api = Api.of(tenant)
    assert api.get(f"/jobs/{job.public_id}").json()["work"] is None
    for name in ("bundle", "patch"):
        assert error_of(api.get(f"/jobs/{job.public_id}/{name}"))["code"] == "unknown_work"


def test_a_list_reads_the_work_of_all_its_jobs_at_once(tenant: Tenant, key: str) -> None:
    api = Api.of(tenant)
    counts: list[int] = []
    # The first call of a key stores the time of its use.
    api.get("/jobs")
    for _ in range(2):
        job_with_work(tenant, key)
        with CaptureQueriesContext(connection) as queries:
            assert api.get("/jobs").json()["results"][0]["work"]["head"] == HEAD
        counts.append(len(queries))
        assert not any("sealed" in query["sql"].split("FROM")[0] for query in queries if "keptwork" in query["sql"])
    assert counts[0] == counts[1]
