from __future__ import annotations

import pytest

from myctobot.lib.addresses import address_key, client_of


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
    ("forwarded", "client"),
    [
        ([], "10.0.0.1"),
        ([b"1.2.3.4"], "1.2.3.4"),
        ([b"6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ([b"6.6.6.6", b"1.2.3.4"], "1.2.3.4"),
        ([b"2001:db8::1"], "2001:db8::1"),
        ([b"nonsense"], "10.0.0.1"),
        ([b"\xff"], "10.0.0.1"),
    ],
)
def test_the_client_behind_a_proxy_is_the_one_that_the_proxy_saw(forwarded: list[bytes], client: str) -> None:
    headers = [(b"x-forwarded-for", value) for value in forwarded]
    assert client_of("10.0.0.1", headers, behind_proxy=True) == client
    assert client_of("10.0.0.1", headers, behind_proxy=False) == "10.0.0.1"
