from __future__ import annotations

import asyncio
import resource
import subprocess
import sys

import pytest
import structlog

from myctobot.stack.connections import (
    RESERVED_FILES,
    TOO_MANY,
    TOO_MANY_FROM_ADDRESS,
    ConnectionLimits,
    Connections,
    connections_within,
)


@pytest.fixture
def connections() -> Connections:
    return Connections(ConnectionLimits(total=3, per_address=2, header_timeout_s=1))


def opened(connections: Connections, host: str | None) -> asyncio.BaseTransport:
    transport = asyncio.BaseTransport()
    assert connections.open(transport, host) is None
    return transport


def test_an_address_has_its_share(connections: Connections) -> None:
    first, _ = opened(connections, "10.0.0.1"), opened(connections, "10.0.0.1")
    assert connections.open(asyncio.BaseTransport(), "10.0.0.1") is TOO_MANY_FROM_ADDRESS
    connections.close(first)
    opened(connections, "10.0.0.1")
    opened(connections, "10.0.0.2")


def test_all_addresses_together_have_a_limit(connections: Connections) -> None:
    for number in range(3):
        opened(connections, f"10.0.0.{number}")
    assert connections.open(asyncio.BaseTransport(), "10.0.0.9") is TOO_MANY


def test_a_refused_connection_does_not_count(connections: Connections) -> None:
    held = [opened(connections, "10.0.0.1"), opened(connections, "10.0.0.1")]
    refused = asyncio.BaseTransport()
    assert connections.open(refused, "10.0.0.1") is TOO_MANY_FROM_ADDRESS
    connections.close(refused)
    assert connections.open(asyncio.BaseTransport(), "10.0.0.1") is TOO_MANY_FROM_ADDRESS
    connections.close(held[0])
    # A second report of the same end changes nothing.
    connections.close(held[0])
    opened(connections, "10.0.0.1")
    assert connections.open(asyncio.BaseTransport(), "10.0.0.1") is TOO_MANY_FROM_ADDRESS


def test_clients_of_a_unix_socket_have_no_address(connections: Connections) -> None:
    for _ in range(3):
        opened(connections, None)
    assert connections.open(asyncio.BaseTransport(), None) is TOO_MANY


def test_refusals_are_logged_together(connections: Connections) -> None:
    for number in range(3):
        opened(connections, f"10.0.0.{number}")
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            connections.open(asyncio.BaseTransport(), "10.0.0.9")
    assert [line["event"] for line in lines] == ["connections.refused"]


@pytest.mark.parametrize(
    ("files", "allowed"),
    [(20_000, 4000), (resource.RLIM_INFINITY, 4000), (1024, 1024 - RESERVED_FILES), (64, 32)],
)
def test_connections_leave_files_for_everything_else(files: int, allowed: int) -> None:
    assert connections_within(files, 4000) == allowed


def test_the_limit_on_files_is_raised_as_far_as_possible() -> None:
    script = (
        "import resource; from myctobot.stack.connections import raise_file_limit;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128));"
        "print(raise_file_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.split() == ["128"] * 3
