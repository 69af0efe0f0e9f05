"""Attack on the network between shards and the control plane: a key or a password in clear text."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from pytest_django.fixtures import Settings

from shards.errors import InsecureLink
from shards.models import Shard
from shards.operations.enrolment import enrol, issue_token
from shards.operations.models import Enrolment
from shards.operations.secure_links import plain_address, require_secure_links
from shards.providers.lxc.host import host_from_settings
from shards.providers.lxc.provider import LxcProvider
from shards.providers.process.provider import ProcessProvider
from shards.providers.registry import provider

PLAIN = ("http://10.9.0.1:8000", "redis://:secret@10.9.0.1:6379/0")
TLS = ("https://control.example", "rediss://:secret@broker.example:6379/0")
PROXMOX = "proxmox"


def use(settings: Settings, control: str, broker: str) -> None:
    settings.SHARD_CONTROL_URL, settings.SHARD_BROKER_URL = control, broker


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
    with pytest.raises(InsecureLink) as caught:
        require_secure_links(Shard(name="one", provider=maker))
    assert caught.value.message.startswith(named)
    assert "SHARD_PLAIN_NETWORKS" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("maker", ["", PROXMOX])
@pytest.mark.parametrize(
    ("control", "broker"), [TLS, ("http://127.0.0.1:8000", "redis://localhost:6379/0"), ("http://[::1]:80", TLS[1])]
)
def test_tls_and_loopback_are_secure(settings: Settings, maker: str, control: str, broker: str) -> None:
    use(settings, control, broker)
    require_secure_links(Shard(name="one", provider=maker))


def test_an_operator_can_list_a_network(settings: Settings) -> None:
    use(settings, *PLAIN)
    settings.SHARD_PLAIN_NETWORKS = [ip_network("fd00::/8"), ip_network("10.9.0.0/24")]
    require_secure_links(Shard(name="one", provider=PROXMOX))
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


@pytest.mark.django_db
def test_no_token_is_issued_for_a_plain_link(settings: Settings) -> None:
    use(settings, *PLAIN)
    shard = Shard.objects.create(name="one", capabilities=["git"])
    with pytest.raises(InsecureLink):
        issue_token(shard, by="anna")
    assert not Enrolment.objects.exists()


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
