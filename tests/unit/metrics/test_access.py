"""Access rules of the metrics."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from myctobot.metrics.access import comes_from, has_token

NETWORKS = [ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.7")]
TOKEN = "metrics-token-0123456789"


@pytest.mark.parametrize(
    ("address", "was_forwarded", "expected"),
    [
        ("10.1.2.3", False, True),
        ("10.1.2.3", True, False),
        ("::ffff:10.1.2.3", False, True),
        ("fd00::5", False, True),
        ("192.0.2.7", False, True),
        ("192.0.2.8", False, False),
        ("127.0.0.1", False, False),
        ("::1", False, False),
        ("10.1.2", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_by_where_a_request_comes_from(address: str | None, was_forwarded: bool, expected: bool) -> None:
    assert comes_from(address, NETWORKS, was_forwarded=was_forwarded) is expected
    assert comes_from(address, [], was_forwarded=was_forwarded) is False


@pytest.mark.parametrize(
    ("sent", "token", "expected"),
    [(TOKEN, TOKEN, True), (TOKEN + "x", TOKEN, False), ("", TOKEN, False), (None, TOKEN, False), ("", "", False),
     (None, "", False), ("caf\u00e9", TOKEN, False)],
)  # fmt: skip
def test_by_the_token(sent: str | None, token: str, expected: bool) -> None:
    assert has_token(sent, token) is expected
