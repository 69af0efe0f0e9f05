"""Tenants try to learn which internal names and special addresses exist, and to reach them."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from myctobot.contract.addresses import is_public_address
from myctobot.lib.http_client import NotSent, Outgoing
from workers.errors import JobError
from workers.git.policy import GitPolicy, locate

INTERNAL, UNKNOWN = "db.internal.example", "no-such.internal.example"


def resolve(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    """Let the internal name resolve to these addresses, and no other name at all."""

    async def lookup(self: Any, host: str, port: int, **_: Any) -> list[Any]:
        if host != INTERNAL:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", lookup)


def callback_error(host: str) -> tuple[Any, ...]:
    with pytest.raises(NotSent) as refused:
        asyncio.run(Outgoing(is_public_address).post(f"https://{host}/", b"", {}))
    return (str(refused.value).replace(host, "HOST"),)


def repository_error(host: str) -> tuple[Any, ...]:
    with pytest.raises(JobError) as refused:
        asyncio.run(locate(f"https://{host}/r.git", GitPolicy()))
    return refused.value.code, refused.value.retryable, str(refused.value).replace(host, "HOST")


@pytest.mark.parametrize("error_of", [callback_error, repository_error])
@pytest.mark.parametrize(
    "addresses", [["10.0.0.5"], ["127.0.0.1"], ["93.184.215.14", "192.168.1.1"], ["192.88.99.1"], ["3fff::1"]]
)
def test_an_internal_name_has_the_answer_of_an_unknown_one(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], error_of: Any
) -> None:
    resolve(monkeypatch, addresses)
    assert error_of(INTERNAL) == error_of(UNKNOWN)
    assert not [address for address in addresses if address in str(error_of(INTERNAL))]


@pytest.mark.parametrize("address", ["3fff::1", "3fff:fff:ffff::1", "192.88.99.1", "::ffff:192.88.99.2"])
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public_address(address)
