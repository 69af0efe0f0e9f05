"""Addresses that agents may reach without a proxy."""

from __future__ import annotations

import pytest

from myctobot.contract.direct_addresses import DirectAddress, parse_direct_address


@pytest.mark.parametrize(
    ("text", "address", "canonical"),
    [
        ("10.0.0.5:5432", DirectAddress("10.0.0.5", 5432), "10.0.0.5:5432"),
        ("[FD00:0::2]:443", DirectAddress("fd00::2", 443), "[fd00::2]:443"),
        ("192.0.2.7:65535", DirectAddress("192.0.2.7", 65535), "192.0.2.7:65535"),
    ],
)
def test_an_address_has_one_form(text: str, address: DirectAddress, canonical: str) -> None:
    assert parse_direct_address(text) == address
    assert str(address) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.5", "10.0.0.5:0", "10.0.0.5:65536", "10.0.0.5:٣", "10.0.0.05:1", "db.example:5432", "fd00::2:443",
     "[10.0.0.5]:443", "10.0.0.0/24:80", "http://10.0.0.5:80", "[fe80::1%eth0]:1", " 10.0.0.5:1", "10.0.0.5:1\n"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address with a port, such as"):
        parse_direct_address(text)


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:22", "127.9.9.9:22", "0.0.0.0:22", "169.254.169.254:80", "224.0.0.1:80", "255.255.255.255:80",
     "[::1]:22", "[::]:22", "[fe80::1]:22", "[ff02::1]:22", "[::ffff:127.0.0.1]:22", "[::ffff:10.0.0.5]:22",
     "[::ffff:7f00:1]:22", "[64:ff9b::7f00:1]:22"],
)  # fmt: skip
def test_the_shard_itself_its_link_and_groups_of_machines_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the address of one other machine"):
        parse_direct_address(text)
