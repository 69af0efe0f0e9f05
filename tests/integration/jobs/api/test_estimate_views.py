"""Expected wait of a job that is not submitted yet."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.models import Job
from myctobot.tenants.models import Role, Tenant
from shards.models import Assignment, Pool, Shard
from tests.factories.control_plane import (
    Api,
    age,
    attempts_of,
    error_of,
    make_job,
    make_shard,
    running_job,
)
from tests.factories.personas import Persona

pytestmark = pytest.mark.django_db


def estimate(api: Api, *capabilities: str, **more: Any) -> dict[str, Any]:
    answer = api.post("/jobs/estimate", {"capabilities": list(capabilities), **more})
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    assert set(found) == {"code", "reason", "estimated_wait_s"}
    return found


def take_all_slots(tenant: Tenant, key: str, seconds_ago: float = 0) -> None:
    for _ in range(2):
        job, _ = running_job(tenant, key)
        age(attempts_of(job)[0], "claimed_at", seconds_ago)


@pytest.fixture
def usual(tenant: Tenant, key: str) -> None:
    """Jobs take 200 s."""
    job, runner = running_job(tenant, key)
    runner.finish()
    age(attempts_of(job)[0], "claimed_at", 200)


def test_with_a_free_slot_it_starts_at_once(tenant: Tenant, shard: Shard) -> None:
    found = estimate(Api.of(tenant), "git")
    assert (found["code"], found["estimated_wait_s"]) == ("next", 0)
    assert Job.objects.count() == 0


def test_behind_busy_slots_it_says_who_is_busy_and_for_how_long(tenant: Tenant, key: str, usual: None) -> None:
    take_all_slots(tenant, key, seconds_ago=50)
    found = estimate(Api.of(tenant), "git")
    assert found["code"] == "class_busy"
    assert found["reason"] == "The only healthy shard with git is busy."
    assert found["estimated_wait_s"] == pytest.approx(150, abs=3)


def test_a_higher_priority_goes_past_those_that_wait(tenant: Tenant, key: str, usual: None) -> None:
    take_all_slots(tenant, key, seconds_ago=50)
    for _ in range(4):
        make_job(tenant)
    api = Api.of(tenant)
    high, normal = (estimate(api, "git", priority=name)["estimated_wait_s"] for name in ("high", "normal"))
    assert high == pytest.approx(150, abs=3)
    assert normal > high + 100


def test_a_job_that_no_shard_could_ever_run_is_answered_too(tenant: Tenant, shard: Shard) -> None:
    found = estimate(Api.of(tenant), "git", "teleport")
    assert (found["code"], found["estimated_wait_s"]) == ("capability_missing", None)
    assert "teleport" in found["reason"]


def test_a_tenant_without_shards(tenant: Tenant) -> None:
    assert estimate(Api.of(tenant), "git")["code"] == "no_shard"


def test_a_tenant_at_its_limit(tenant: Tenant, key: str) -> None:
    Tenant.objects.update(max_running_jobs=1)
    running_job(tenant, key)
    assert estimate(Api.of(tenant), "git")["code"] == "tenant_limit"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["capabilities"]),
        ({"capabilities": []}, ["capabilities"]),
        ({"capabilities": "git"}, ["capabilities"]),
        ({"capabilities": ["Git!"]}, ["capabilities"]),
        ({"capabilities": ["git"], "priority": "urgent"}, ["priority"]),
        ({"capabilities": ["git"], "prompt": "x"}, ["prompt"]),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    tenant: Tenant, shard: Shard, body: dict[str, Any], fields: list[str]
) -> None:
    answer = Api.of(tenant).post("/jobs/estimate", body)
    assert answer.status_code == 400
    assert [name.split("[")[0] for name in error_of(answer)["fields"]] == fields


class TestWhoAsks:
    def test_a_teammate_and_a_viewer_get_the_same_answer_as_the_owner(
        self, owner: Persona, teammate: Persona, tenant: Tenant, shard: Shard
    ) -> None:
        expected = estimate(owner.api_by_key, "git")
        assert estimate(teammate.api, "git") == expected
        assert estimate(Api.of(tenant, Role.VIEWER), "git") == expected

    def test_an_outsider_gets_an_answer_about_its_own_shards_only(self, tenant: Tenant, outsider: Persona) -> None:
        make_shard("closed", "git", pool="premium")
        Assignment.objects.create(tenant=tenant, pool=Pool.objects.get())
        assert estimate(Api.of(tenant), "git")["code"] == "next"
        answer = estimate(outsider.api_by_key, "git")
        assert answer["code"] == "no_shard"
        assert "closed" not in answer["reason"]

    def test_an_address_of_its_own_hides_no_job(self, tenant: Tenant, shard: Shard) -> None:
        assert Api.of(tenant).get("/jobs/estimate").status_code == 405
