from __future__ import annotations

import pytest

from myctobot.lib.addresses import address_key, client_address


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("::1", "::"),
        ("fe80::1%eth0", "fe80::"),
        (None, ""),
        ("a name", "a name"),
    ],
)
def test_the_key_of_an_address(host: str | None, key: str) -> None:
    assert address_key(host) == key


@pytest.mark.parametrize(
    ("peer", "forwarded", "behind_proxy", "expected"),
    [
        ("192.0.2.1", None, False, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", False, "192.0.2.1"),
        ("127.0.0.1", "203.0.113.9", True, "203.0.113.9"),
        # A client sends what it likes, and the proxy appends the address that it sees.
        ("127.0.0.1", "10.0.0.1, 203.0.113.9", True, "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9, anything", True, "127.0.0.1"),
        ("127.0.0.1", "2001:db8::1", True, "2001:db8::1"),
        ("127.0.0.1", "\xff", True, "127.0.0.1"),
        ("127.0.0.1", None, True, "127.0.0.1"),
        ("::ffff:192.0.2.1", None, False, "192.0.2.1"),
        ("fe80::1%eth0", None, False, "fe80::1"),
        (None, None, False, ""),
        ("", "", True, ""),
    ],
)
def test_the_address_of_a_client(peer: str | None, forwarded: str | None, behind_proxy: bool, expected: str) -> None:
    assert client_address(peer, forwarded, behind_proxy=behind_proxy) == expected
