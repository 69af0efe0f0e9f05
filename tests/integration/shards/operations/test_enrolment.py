from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from myctobot.lib.crypto import digest
from myctobot.tenants.models import AuditEntry
from shards.models import Shard
from shards.monitoring.models import Alert
from shards.operations.enrolment import issue_token
from tests.factories.control_plane import JsonClient, error_of
from tests.factories.operations import REPORT, post
from workers.config import parse_config

pytestmark = pytest.mark.django_db


def test_a_token_enrols_once(shard: Shard) -> None:
    token = issue_token(shard, by="anna")
    config = post("/shard/v1/enroll", {"token": token}).json()["config"]
    assert JsonClient(config["shard_key"]).post("/shard/v1/heartbeat", REPORT).status_code == 200
    again = post("/shard/v1/enroll", {"token": token})
    assert (again.status_code, error_of(again)["code"]) == (401, "bad_enrolment")
    # The first use may have been an attack.
    post("/shard/v1/enroll", {"token": token})
    assert AuditEntry.objects.filter(action="shard.enrolment_repeated", subject="shard/made").count() == 1
    assert Alert.objects.filter(kind="enrolment.repeated").count() == 1


def test_a_stored_digest_does_not_enrol(shard: Shard) -> None:
    token = issue_token(shard, by="anna")
    assert post("/shard/v1/enroll", {"token": digest(token)}).status_code == 401
    assert token not in str(list(AuditEntry.objects.values_list("details", flat=True)))


def test_the_configuration_states_the_accepted_addresses_without_tls(shard: Shard, settings: Any) -> None:
    # The shard's provider guarantees this address, and the worker checks it too.
    settings.SHARD_CONTROL_URL, settings.GATEWAY_URL = "http://192.0.2.1:8000", "http://192.0.2.2:8001"
    config = post("/shard/v1/enroll", {"token": issue_token(shard, by="anna")}).json()["config"]
    assert config["plain_networks"] == ["192.0.2.1", "192.0.2.2"]
    assert parse_config(config).links.problem("GATEWAY_URL", settings.GATEWAY_URL) is None


@pytest.mark.parametrize("life", [timedelta(seconds=-1)])
def test_an_expired_token_does_not_enrol(shard: Shard, life: timedelta) -> None:
    assert post("/shard/v1/enroll", {"token": issue_token(shard, by="anna", life=life)}).status_code == 401


def test_a_new_token_ends_the_one_before(shard: Shard) -> None:
    first, _ = issue_token(shard, by="anna"), issue_token(shard, by="anna")
    assert post("/shard/v1/enroll", {"token": first}).status_code == 401


def test_enrolment_ends_what_the_shard_had(shard: Shard) -> None:
    old = shard.issue_key()
    post("/shard/v1/enroll", {"token": issue_token(shard, by="anna")})
    assert JsonClient(old).post("/shard/v1/heartbeat", REPORT).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"token": 1}, 400), ({"token": "x"}, 401), ({"token": "x" * 5000}, 400), ([], 400), ("no", 400)],
)
def test_nonsense_is_refused(shard: Shard, body: object, status: int) -> None:
    assert post("/shard/v1/enroll", body).status_code == status


def test_the_sandbox_gets_what_the_container_has_less_what_the_worker_needs(shard: Shard) -> None:
    shard.resource_spec, shard.max_concurrent_jobs = {"memory_mb": 2048}, 2
    shard.save()
    config = post("/shard/v1/enroll", {"token": issue_token(shard, by="anna")}).json()["config"]
    assert config["sandbox"]["memory_mb"] == (2048 - 192) // 2


def sandbox_of(shard: Shard) -> dict[str, Any]:
    config = post("/shard/v1/enroll", {"token": issue_token(shard, by="anna")}).json()["config"]
    return dict(config["sandbox"])


@pytest.mark.parametrize(
    ("provider", "chosen"), [("process", "job"), ("lxc", "shard"), ("proxmox", "shard"), ("", "shard")]
)
def test_each_job_has_a_network_of_its_own_unless_the_operator_shares_the_shards(
    shard: Shard, settings: Any, provider: str, chosen: str
) -> None:
    Shard.objects.filter(pk=shard.pk).update(provider=provider)
    assert sandbox_of(shard)["network"] == "job"
    settings.SHARD_JOB_NETWORK = "shard"
    assert sandbox_of(shard)["network"] == chosen


def test_agents_get_only_the_proxy_and_the_addresses_that_are_theirs(shard: Shard, settings: Any) -> None:
    settings.SHARD_PROXY_URL = "http://10.0.0.1:8888"
    found = sandbox_of(shard)
    assert (found["proxy_url"], "addresses" in found) == ("", False)
    settings.SHARD_AGENT_PROXY_URL, settings.SHARD_AGENT_ADDRESSES = "http://10.0.0.1:8888", ["10.0.0.5:5432"]
    found = sandbox_of(shard)
    assert (found["proxy_url"], found["addresses"]) == ("http://10.0.0.1:8888", ["10.0.0.5:5432"])
