from __future__ import annotations

from typing import Any

import pytest

from myctobot.web.network_guard import NetworkGuard

BORDER = NetworkGuard(["10.213.0.0/24", "fd00:1::/64"], ["10.213.0.1"])


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.213.0.7", True),
        ("::ffff:10.213.0.7", True),
        ("fd00:1::7", True),
        ("10.213.0.1", False),
        ("127.0.0.1", False),
        ("10.214.0.7", False),
        ("not an address", True),
    ],
)
def test_whose_address_it_is(address: str, expected: bool) -> None:
    assert BORDER.is_shard(address) is expected


@pytest.mark.parametrize(
    ("path", "kind", "refused"),
    [
        ("/admin/", "http", True),
        ("/api/v1/jobs", "http", True),
        ("/", "http", True),
        ("/shard/v1/heartbeat", "http", False),
        ("/shardy", "http", True),
        ("/healthz", "http", False),
        ("/ws/jobs/x", "websocket", True),
        ("/shard/x", "websocket", True),
    ],
)
def test_a_shard_sees_the_shard_api_alone(path: str, kind: str, refused: bool) -> None:
    scope: dict[str, Any] = {"type": kind, "path": path, "client": ("10.213.0.7", 4000)}
    assert BORDER.refuses(scope) is refused
    assert BORDER.refuses({**scope, "client": ("127.0.0.1", 4000)}) is False


def test_without_networks_everybody_is_let_through() -> None:
    assert not NetworkGuard([], []).is_shard("not an address")
