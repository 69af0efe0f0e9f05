"""REST calls that only operators may make."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs.dispatch.round import dispatch_round
from myctobot.tenants.models import Role, Tenant
from shards.models import Shard, Suspension
from tests.factories.control_plane import Answer, Api, error_of, make_job, make_member, make_operator

pytestmark = pytest.mark.django_db

CALLS: dict[str, Callable[[Api], Answer]] = {
    "queues": lambda api: api.get("/queues"),
    "suspensions": lambda api: api.get("/suspensions"),
    "pause": lambda api: api.post("/queues/pause", {"shard_class": "filesystem+git", "reason": "x"}),
    "resume": lambda api: api.post("/queues/resume", {"shard_class": "filesystem+git"}),
    "drain": lambda api: api.post("/shards/one/drain", {"reason": "x"}),
    "resume shard": lambda api: api.post("/shards/one/resume"),
}


@pytest.fixture
def operator(shard: Shard) -> Api:
    return Api.session(make_operator())


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_only_operators_are_allowed(call: Callable[[Api], Answer], tenant: Tenant, shard: Shard) -> None:
    admin = Api.session(make_member(tenant, "anna", Role.ADMIN))
    assert [call(api).status_code for api in (Api(), Api.of(tenant, Role.ADMIN), admin)] == [401, 403, 403]
    assert Suspension.objects.count() == 0


def test_a_drain_and_its_end(operator: Api, tenant: Tenant) -> None:
    assert operator.post("/shards/one/drain", {"reason": "kernel"}).json()["suspended_by"] == "olga"
    make_job(tenant)
    assert dispatch_round().sent == 0
    assert error_of(operator.post("/shards/one/drain", {"reason": "again"}))["code"] == "already_suspended"
    assert operator.post("/shards/one/resume").json()["resumed_by"] == "olga"
    assert dispatch_round().sent == 1
    assert error_of(operator.post("/shards/one/resume"))["code"] == "nothing_to_resume"
    assert error_of(operator.post("/shards/two/drain", {"reason": "x"}))["code"] == "unknown_shard"


def test_a_pause_and_its_end(operator: Api, tenant: Tenant) -> None:
    assert operator.post("/queues/pause", {"shard_class": "filesystem+git", "reason": "cost"}).status_code == 200
    make_job(tenant)
    assert dispatch_round().sent == 0
    (row,) = operator.get("/queues").json()["classes"]
    assert "olga: cost" in row["unhealthy"]["one"]
    assert operator.post("/queues/resume", {"shard_class": "filesystem+git"}).status_code == 200
    assert dispatch_round().sent == 1
    (suspension,) = operator.get("/suspensions").json()["results"]
    assert (suspension["reason"], suspension["resumed_by"]) == ("cost", "olga")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/queues/pause", {"shard_class": "filesystem+git"}, "reason"),
        ("/queues/pause", {"reason": "x"}, "pool"),
        ("/queues/pause", {"pool": "a", "shard_class": "b", "reason": "x"}, "pool"),
        ("/queues/pause", {"pool": "nobody", "reason": "x"}, "pool"),
        ("/queues/pause", {"shard_class": "nobody", "reason": "x"}, "class"),
        ("/shards/one/drain", {}, "reason"),
        ("/shards/one/drain", {"reason": "x", "when": "now"}, "when"),
    ],
)
def test_a_wrong_request_names_its_field(operator: Api, path: str, body: dict[str, str], field: str) -> None:
    assert field in error_of(operator.post(path, body))["fields"]


def test_classes_come_in_pages(operator: Api) -> None:
    from tests.factories.control_plane import make_shard

    make_shard("two", "browser")
    first = operator.get("/queues?limit=1").json()
    assert ([row["class"] for row in first["classes"]], first["next"]) == (["browser"], "browser")
    second = operator.get("/queues?limit=1&after=browser").json()
    assert ([row["class"] for row in second["classes"]], second["next"]) == (["filesystem+git"], None)
