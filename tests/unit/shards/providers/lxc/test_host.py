"""Configuration of this host: slots that share nothing, and rules for each slot."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from shards.providers.lxc.host import LxcHost, host_from_settings
from shards.providers.lxc.network import rules

NETWORK = IPv4Network("10.213.0.0/24")
HOST = LxcHost(Path("/srv/lxc"), "us", "mctb0", NETWORK, ((NETWORK[1], 8000),), first_id=1_000_000)


def test_slots_share_nothing() -> None:
    slots = HOST.slots
    for part in ("number", "address", "mac", "veth", "first_id"):
        assert len({getattr(slot, part) for slot in slots}) == len(slots) == 250
    assert (slots[0].address, slots[-1].address) == (NETWORK[2], NETWORK[251])
    assert all(len(slot.veth) <= 15 for slot in slots)


def test_a_small_network_has_few_slots() -> None:
    host = LxcHost(Path("/srv/lxc"), "us", "mctb0", IPv4Network("10.213.0.0/29"))
    assert [str(slot.address) for slot in host.slots] == [f"10.213.0.{number}" for number in range(2, 7)]


def test_the_rules_name_every_slot_and_allow_what_is_allowed() -> None:
    text = rules(HOST, proxy_user=None)
    assert all(f'"{slot.veth}" . {slot.mac} . {slot.address}' in text for slot in HOST.slots)
    assert "ip daddr . tcp dport { 10.213.0.1 . 8000, 10.213.0.1 . 8888 } accept" in text
    assert "skuid" not in text


def test_the_proxy_may_not_be_led_to_private_addresses() -> None:
    text = rules(HOST, proxy_user=987)
    assert "meta skuid 987 ct state new jump proxy" in text
    for network in ("127.0.0.0/8", "10.0.0.0/8", "169.254.0.0/16", "fc00::/7", "::ffff:0:0/96"):
        assert network in text


@pytest.fixture
def lxc(settings: Any) -> Any:
    settings.SHARD_CONTROL_URL = "http://10.213.0.1:8000"
    settings.GATEWAY_URL = "https://10.213.0.1"
    settings.SHARD_BROKER_URL = "rediss://10.213.0.1/0"
    return settings


def test_services_of_the_control_plane_on_the_bridge_are_allowed(lxc: Any) -> None:
    assert [port for _, port in host_from_settings().allowed] == [8000, 443, 6379]


def test_services_on_other_addresses_are_not_allowed(lxc: Any) -> None:
    lxc.SHARD_CONTROL_URL = "http://127.0.0.1:8000"
    lxc.GATEWAY_URL = "https://gateway.example"
    assert [port for _, port in host_from_settings().allowed] == [6379]


def test_the_setting_adds_to_that(lxc: Any) -> None:
    lxc.LXC_ALLOWED = ["10.213.0.1:9000", "10.0.0.5:443"]
    assert host_from_settings().allowed[3:] == ((IPv4Address("10.213.0.1"), 9000), (IPv4Address("10.0.0.5"), 443))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LXC_PATH", "relative"), ("LXC_PATH", "/a,b"), ("LXC_PATH", "/a b"), ("LXC_PATH", "/a:b"),
        ("LXC_PATH", "/a\nb"),
        ("LXC_BRIDGE", "br0;x"), ("LXC_BRIDGE", "a" * 11), ("LXC_BRIDGE", ""), ("LXC_BRIDGE", 'x"'),
        ("LXC_NETWORK", "8.8.8.0/24"), ("LXC_NETWORK", "10.0.0.1/24"), ("LXC_NETWORK", "10.0.0.0/30"),
        ("LXC_NETWORK", "x"),
        ("LXC_ALLOWED", ["host:80"]), ("LXC_ALLOWED", ["10.213.0.1"]), ("LXC_ALLOWED", ["10.213.0.1:80 accept"]),
        ("LXC_ALLOWED", ["10.213.0.1:70000"]), ("LXC_ALLOWED", ["10.213.0.1:-1"]),
        ("EGRESS_PRIVATE_NETWORKS", ["0.0.0.0/0"]),
    ],
)  # fmt: skip
def test_a_setting_that_will_not_do_is_named(lxc: Any, name: str, value: object) -> None:
    setattr(lxc, name, value)
    with pytest.raises(ImproperlyConfigured, match=name):
        host_from_settings()
