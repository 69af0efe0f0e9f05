from __future__ import annotations

import pytest

from myctobot.contract.secure_links import link_problem, parse_networks

NETWORKS = parse_networks(["10.9.0.0/24", "fd00::1"])


@pytest.mark.parametrize(
    "url",
    [
        "https://control.example",
        "rediss://:x@10.0.0.1",
        "http://localhost:1",
        "redis://127.0.0.9",
        "http://[::1]",
        "http://0.0.0.0:8000",
        "http://10.9.0.7",
        "redis://:secret@[fd00::1]:6379",
    ],
)
def test_secure_links(url: str) -> None:
    assert link_problem("URL", url, NETWORKS, "NETWORKS") is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://10.9.1.1", "URL is http://10.9.1.1, so keys would travel in clear text. Use https://, or list the"),
        ("redis://:secret@10.8.0.1", "URL is redis://10.8.0.1, so keys would travel in clear text. Use rediss://, or"),
        ("http://10.9.0.1.example", "or write the host's address and list its network in NETWORKS"),
        ("http://[::ffff:10.9.0.1]", "in clear text"),
        ("http://", "in clear text"),
        ("ftp://10.8.0.1", "Use https://"),
    ],
)
def test_other_links_have_a_remedy(url: str, said: str) -> None:
    problem = link_problem("URL", url, NETWORKS, "NETWORKS") or ""
    assert said in problem
    assert "secret" not in problem


def test_a_guarded_address_is_secure_and_a_name_never_is() -> None:
    assert link_problem("URL", "http://10.8.0.1", (), "NETWORKS", lambda address: True) is None
    assert link_problem("URL", "http://control.example", (), "NETWORKS", lambda address: True) is not None
