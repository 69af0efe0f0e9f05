"""Attack on the network between shards and the control plane: a key or a password in clear text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from pytest_django.fixtures import Settings

from myctobot.contract.secure_links import plain_address
from shards.errors import InsecureLink
from shards.models import Shard
from shards.operations.enrolment import enrol, issue_token
from shards.operations.models import Enrolment
from shards.operations.secure_links import require_secure_links
from shards.providers.lxc.host import host_from_settings
from shards.providers.lxc.provider import LxcProvider
from shards.providers.process.provider import ProcessProvider
from shards.providers.registry import provider
from tests.factories.executions import make_execution
from workers.config import ConfigError, load_config, parse_config, used_token_path
from workers.errors import JobError
from workers.runner.execution import Execution

PLAIN = ("http://10.9.0.1:8000", "redis://:secret@10.9.0.1:6379/0")
TLS = ("https://control.example", "rediss://:secret@broker.example:6379/0")
GATEWAY = "https://gateway.example"
PROXMOX = "proxmox"


def use(settings: Settings, control: str, broker: str, gateway: str = GATEWAY) -> None:
    settings.SHARD_CONTROL_URL, settings.SHARD_BROKER_URL, settings.GATEWAY_URL = control, broker, gateway


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("control", "broker", "named"),
    [
        (PLAIN[0], TLS[1], "SHARD_CONTROL_URL is http://10.9.0.1"),
        (TLS[0], PLAIN[1], "SHARD_BROKER_URL is redis://10.9.0.1"),
        ("http://control.example:8000", TLS[1], "SHARD_CONTROL_URL is http://control.example"),
        ("http://[fd00::1]:8000", TLS[1], "SHARD_CONTROL_URL is http://fd00::1"),
        ("http://127.0.0.1.example", TLS[1], "SHARD_CONTROL_URL is http://127.0.0.1.example"),
    ],
)
@pytest.mark.parametrize("maker", ["", PROXMOX])
def test_a_shard_elsewhere_gets_no_key_over_a_plain_link(
    settings: Settings, maker: str, control: str, broker: str, named: str
) -> None:
    use(settings, control, broker)
    shard = Shard.objects.create(name="one", provider=maker, capabilities=["git"])
    with pytest.raises(InsecureLink) as caught:
        issue_token(shard, by="anna")
    assert caught.value.message.startswith(named)
    assert "SHARD_PLAIN_NETWORKS" in caught.value.message
    assert "secret" not in caught.value.message
    assert not Enrolment.objects.exists()


@pytest.mark.parametrize("maker", ["", PROXMOX])
@pytest.mark.parametrize(
    ("control", "broker"), [TLS, ("http://127.0.0.1:8000", "redis://localhost:6379/0"), ("http://[::1]:80", TLS[1])]
)
def test_tls_and_loopback_are_secure(settings: Settings, maker: str, control: str, broker: str) -> None:
    use(settings, control, broker)
    # None of them has to be stated as a plain link that is secure.
    assert require_secure_links(Shard(name="one", provider=maker)) == []


@pytest.mark.parametrize("maker", ["", PROXMOX])
def test_the_tokens_of_jobs_do_not_travel_over_a_plain_link_either(settings: Settings, maker: str) -> None:
    use(settings, *TLS, "http://10.9.0.1:8001")
    with pytest.raises(InsecureLink, match="GATEWAY_URL is http://10"):
        require_secure_links(Shard(name="one", provider=maker))


def test_an_operator_can_list_a_network(settings: Settings) -> None:
    use(settings, *PLAIN)
    settings.SHARD_PLAIN_NETWORKS = [ip_network("fd00::/8"), ip_network("10.9.0.0/24")]
    assert require_secure_links(Shard(name="one", provider=PROXMOX)) == ["10.9.0.1"]
    use(settings, "http://10.9.1.1:8000", TLS[1])
    with pytest.raises(InsecureLink):
        require_secure_links(Shard(name="one", provider=PROXMOX))


def test_only_a_provider_on_this_host_guards_its_links() -> None:
    host = host_from_settings()
    assert LxcProvider(host).guards_link(host.address)
    assert not LxcProvider(host).guards_link(host.address + 1)
    assert not LxcProvider(host).guards_link(ip_address("10.9.0.1"))
    assert ProcessProvider().guards_link(ip_address("127.0.0.1"))
    assert not ProcessProvider().guards_link(ip_address("192.0.2.1"))
    assert not provider(PROXMOX).guards_link(ip_address("10.9.0.1"))


@pytest.mark.parametrize("url", ["https://10.0.0.1", "rediss://10.0.0.1", "redis://localhost", "http://127.9.9.9"])
def test_secure_urls_have_no_plain_address(url: str) -> None:
    assert plain_address(url) is None


def config(control: str, broker: str, **more: Any) -> dict[str, Any]:
    """Return a configuration that an operator wrote."""
    links = {"control_url": control, "broker_url": broker}
    return {"shard_id": "one", "shard_key": "mcts_1", "capabilities": ["git"], **links, **more}


@pytest.mark.parametrize(
    ("control", "broker", "named"),
    [
        (PLAIN[0], TLS[1], "control_url is http://10.9.0.1"),
        (TLS[0], PLAIN[1], "broker_url is redis://10.9.0.1"),
        ("http://control.example", TLS[1], "control_url is http://control.example"),
        ("http://", TLS[1], "control_url is http://"),
    ],
)
def test_a_shard_refuses_a_plain_link_in_its_own_file(control: str, broker: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        parse_config(config(control, broker))
    assert "plain_networks" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_statement_about_another_network_does_not_help() -> None:
    with pytest.raises(ConfigError, match="control_url is http://10"):
        parse_config(config(*PLAIN, plain_networks=["10.9.1.0/24", "::/0"]))
    assert parse_config(config(*PLAIN, plain_networks=["10.9.0.0/24"])).control_url == PLAIN[0]


def test_a_name_is_never_secure_without_tls() -> None:
    for enrolled in (False, True):
        with pytest.raises(ConfigError, match="write the host's address"):
            parse_config(config("http://control.example", TLS[1]), is_enrolled=enrolled)


def test_a_shard_that_enrolled_before_keeps_its_links_until_a_configuration_states_them(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config(*PLAIN)))
    with pytest.raises(ConfigError, match="control_url is"):
        load_config(path)
    used_token_path(path).write_text("digest of its token")
    assert load_config(path).links.problem("GATEWAY_URL", "http://10.9.0.1:8001") is None
    path.write_text(json.dumps(config(*PLAIN, plain_networks=[])))
    with pytest.raises(ConfigError, match="control_url is"):
        load_config(path)


def execution(gateway: str, networks: Sequence[str]) -> Execution:
    """Return the work of a job whose claim names a gateway."""
    answer: Any = {"job_id": "job_0123456789abcdefghjk", "attempt": 1, "gateway": {"url": gateway, "token": "t"}}
    return make_execution(parse_config(config(*TLS, plain_networks=networks)), answer, slot=0)


@pytest.mark.parametrize(
    ("gateway", "networks"),
    [
        ("http://10.9.0.1:8001", []),
        ("http://10.9.0.1:8001", ["10.9.1.0/24"]),
        ("http://gateway.example", ["0.0.0.0/0"]),
    ],
)
def test_a_runner_sends_no_token_of_a_job_over_a_plain_link(gateway: str, networks: list[str]) -> None:
    with pytest.raises(JobError, match="GATEWAY_URL is http://") as caught:
        asyncio.run(execution(gateway, networks).run(AsyncMock()))
    # Another shard may be on the gateway's machine.
    assert (caught.value.code, caught.value.retryable) == ("insecure_link", True)


@pytest.mark.parametrize(
    ("gateway", "networks"),
    [("http://10.9.0.1:8001", ["10.9.0.1"]), ("http://127.0.0.1:8001", []), (GATEWAY, [])],
)
def test_a_runner_uses_a_secure_link_to_the_gateway(gateway: str, networks: list[str]) -> None:
    assert parse_config(config(*TLS, plain_networks=networks)).links.problem("GATEWAY_URL", gateway) is None


@pytest.mark.django_db(transaction=True)
def test_a_token_of_earlier_settings_brings_no_key_and_stays_valid(settings: Settings) -> None:
    use(settings, *TLS)
    shard = Shard.objects.create(name="one", capabilities=["git"])
    token = issue_token(shard, by="anna")
    use(settings, *PLAIN)
    with pytest.raises(InsecureLink):
        enrol(token)
    shard.refresh_from_db()
    assert shard.key_hash is None
    assert Enrolment.objects.get().used_at is None
