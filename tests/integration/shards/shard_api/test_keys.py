"""Shard keys and tenants' keys open different doors."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from jobs.models import Job
from myctobot.tenants.models import ApiKey, Tenant
from shards.models import Shard
from tests.factories.control_plane import Api, JsonClient, error_of, make_shard

pytestmark = pytest.mark.django_db
CALLS = ["heartbeat", "jobs/job_x/claim", "jobs/job_x/events", "jobs/job_x/finish"]


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("key", [None, "", "mcts_wrong", "x" * 5000])
def test_a_wrong_shard_key(db: None, path: str, key: str | None) -> None:
    response = JsonClient(key).post(f"/shard/v1/{path}")
    assert response.status_code == 401
    assert error_of(response)["code"] == "unknown_shard_key"
    assert "config.json" in error_of(response)["message"]


@pytest.mark.parametrize("path", CALLS)
def test_a_tenants_key_is_no_shard_key(tenant: Tenant, path: str) -> None:
    assert JsonClient(ApiKey.create(tenant, "k", role="admin")[1]).post(f"/shard/v1/{path}").status_code == 401


def test_a_shard_key_is_no_tenants_key(tenant: Tenant, key: str) -> None:
    assert Api(key).get("/jobs").status_code == 401
    assert Api(key).post("/jobs", {}).status_code == 401


def test_a_new_key_ends_the_old_one(shard: Shard, key: str) -> None:
    new = shard.issue_key()
    assert JsonClient(key).post("/shard/v1/heartbeat").status_code == 401
    assert JsonClient(new).post("/shard/v1/heartbeat").status_code == 400


def create_key(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("create_shard_key", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_command_prints_a_new_key_alone_and_ends_the_old_one(shard: Shard, key: str) -> None:
    out, err = create_key("--shard", "one")
    assert JsonClient(key).post("/shard/v1/heartbeat").status_code == 401
    assert JsonClient(out.strip()).post("/shard/v1/heartbeat").status_code == 400
    assert out.strip() not in err
    assert "old key is revoked" in err


def test_the_command_speaks_json(shard: Shard) -> None:
    said = json.loads(create_key("--shard", "one", "--json")[0])
    assert said["shard_id"] == "one"
    assert JsonClient(said["shard_key"]).post("/shard/v1/heartbeat").status_code == 400


def test_a_key_for_a_shard_that_is_not_there(shard: Shard, key: str) -> None:
    make_shard("two")
    with pytest.raises(CommandError, match=r"no shard 'three'\. Known: one, two\."):
        create_key("--shard", "three")
    assert JsonClient(key).post("/shard/v1/heartbeat").status_code == 400


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("method", ["get", "put", "delete", "patch"])
def test_other_methods(shard: Shard, key: str, path: str, method: str) -> None:
    client = JsonClient(key)
    response = getattr(client.http, method)(f"/shard/v1/{path}", headers=client.headers)
    assert response.status_code == 405
    assert not Job.objects.exists()


def test_a_body_is_read_for_shards_alone(shard: Shard, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def reading(body: bytes, *_: object) -> object:
        read.append(len(body))
        return {}

    monkeypatch.setattr("shards.shard_api.call.parsed_json", reading)
    large = b"[" * 700_000
    assert JsonClient("mcts_wrong").post("/shard/v1/heartbeat", large).status_code == 401
    assert JsonClient().post("/shard/v1/heartbeat", large).status_code == 401
    assert read == []
    assert JsonClient(key).post("/shard/v1/heartbeat", large).status_code == 400
    assert read == [700_000]
