"""URLs that tenants choose: allowed and refused ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from myctobot.contract.addresses import is_public_address
from myctobot.lib import http_client
from myctobot.lib.http_client import NotSent, Outgoing, OutgoingResponse
from tests.fixtures.endpoint import Endpoint, endpoint


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Endpoint]:
    with endpoint(tmp_path) as found:
        yield found


def post(url: str, hook: Endpoint | None = None, private: tuple[str, ...] = ("localhost",)) -> OutgoingResponse:
    client = Outgoing(is_public_address, private, str(hook.certificate) if hook else "")
    return asyncio.run(client.post(url, b"{}", {"x-test": "1"}))


def refusal(url: str, hook: Endpoint | None = None, private: tuple[str, ...] = ()) -> str:
    with pytest.raises(NotSent) as caught:
        post(url, hook, private)
    return str(caught.value)


def test_what_is_allowed_arrives(hook: Endpoint) -> None:
    assert post(hook.url, hook).status == 200
    ((headers, text),) = hook.received
    assert (headers["x-test"], text) == ("1", "{}")
    assert headers["host"] == hook.url.removeprefix("https://").removesuffix("/hook")


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/latest/meta-data/", "https://10.0.0.1/", "https://192.168.1.1/", "https://100.64.0.1/",
        "https://127.1/", "https://0x7f000001/", "https://2130706433/", "https://0.0.0.0/", "https://[fe80::1]/",
        "https://[64:ff9b::7f00:1]/",
    ],
)  # fmt: skip
def test_a_private_address_is_refused_however_it_is_written(url: str) -> None:
    assert "not public" in refusal(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/", "must start with https"),
        ("https://user:pw@example.com/", "user name"),
        ("https://example.com:22/", "port 22"),
        ("https://example.com:notaport/", "well-formed"),
        ("file:///etc/passwd", "must start with https"),
    ],
)
def test_what_is_no_plain_https_address_is_refused(url: str, words: str) -> None:
    assert words in refusal(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://localhost/\x01", "non-printable"),
        ("https://.example.com/", "well-formed"),
        (f"https://{'a' * 64}.example/", "well-formed"),
    ],
)
def test_what_no_request_can_be_made_of_is_not_sent(url: str, words: str) -> None:
    assert words in refusal(url, private=("localhost",))


def test_a_name_is_looked_up_as_dns_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolves_to(monkeypatch, "127.0.0.1")
    refusal("https://bücher.example/")
    assert asked == ["xn--bcher-kva.example"]
    assert "not public" not in refusal("https://bücher.example:9/", private=("Bücher.example",))


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Every name has these addresses; returns the names that were asked for."""
    asked: list[str] = []

    async def lookup(self: Any, host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", lookup)
    return asked


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("93.184.215.14", "10.0.0.1")])
def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]) -> None:
    resolves_to(monkeypatch, *addresses)
    assert "not public" in refusal("https://innocent.example/")


def test_the_connection_goes_to_the_address_that_was_checked(hook: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolves_to(monkeypatch, "127.0.0.1")
    assert post(hook.url, hook).status == 200
    # A name that changes its address would need a second resolution, by the code that connects.
    assert [host for host in asked if host == "localhost"] == ["localhost"]


def test_a_certificate_of_another_name_is_refused(hook: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, "127.0.0.1")
    url = hook.url.replace("localhost", "other.example")
    assert "certificate" in refusal(url, hook, ("other.example",)).lower()


def test_an_unknown_certificate_is_refused(hook: Endpoint) -> None:
    assert "certificate" in refusal(hook.url, None, ("localhost",)).lower()


def test_a_redirect_is_an_answer_and_not_followed(hook: Endpoint) -> None:
    hook.statuses, hook.location = [302], hook.url
    assert post(hook.url, hook).status == 302
    assert len(hook.received) == 1


def test_a_huge_answer_is_not_read(hook: Endpoint) -> None:
    hook.body = b"x" * 50_000_000
    assert post(hook.url, hook).status == 200


def test_a_slow_endpoint_is_left(hook: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "TIMEOUT_S", 0.3)
    hook.wait_s = 2
    assert "no answer within 0.3 s" in refusal(hook.url, hook, ("localhost",))


def test_a_host_that_does_not_answer(hook: Endpoint) -> None:
    assert "could not be reached" in refusal("https://localhost:1/", hook, ("localhost",))


def test_the_environments_proxy_is_not_used(hook: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert post(hook.url, hook).status == 200
