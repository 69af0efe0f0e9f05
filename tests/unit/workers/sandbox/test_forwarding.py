"""Routes of a job and the heads of its requests."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from myctobot.contract.direct_addresses import DirectAddress
from workers.sandbox.forwarding import GATEWAY_PORT, PROXY_PORT, ForwardedPort, job_routes, rewrite_head


def test_without_a_proxy_the_only_way_out_is_the_gateway() -> None:
    routes, env = job_routes("https://gateway.example/base/", None)
    assert routes == [ForwardedPort(GATEWAY_PORT, "https://gateway.example/base/", is_origin=True)]
    assert env == {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{GATEWAY_PORT}/base"}


def test_programs_use_the_proxy_for_all_but_their_own_servers() -> None:
    routes, env = job_routes("http://10.0.0.1:8001", "http://10.0.0.1:8888")
    assert routes[1:] == [ForwardedPort(PROXY_PORT, "http://10.0.0.1:8888")]
    proxies = {env[name] for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
    assert proxies == {f"http://127.0.0.1:{PROXY_PORT}"}
    assert env["NO_PROXY"] == env["no_proxy"] == "localhost,127.0.0.1,::1"


def test_a_direct_address_is_the_same_inside_and_needs_no_proxy() -> None:
    servers = [DirectAddress("10.0.0.5", 5432), DirectAddress("10.0.0.5", 80), DirectAddress("fd00::2", 443)]
    routes, env = job_routes("http://10.0.0.1:8001", "http://10.0.0.1:8888", servers)
    assert routes[2:] == [
        ForwardedPort(5432, "tcp://10.0.0.5:5432", address="10.0.0.5"),
        ForwardedPort(80, "tcp://10.0.0.5:80", address="10.0.0.5"),
        ForwardedPort(443, "tcp://[fd00::2]:443", address="fd00::2"),
    ]
    assert env["NO_PROXY"] == env["no_proxy"] == "localhost,127.0.0.1,::1,10.0.0.5,fd00::2"
    assert "NO_PROXY" not in job_routes("http://10.0.0.1:8001", None, servers)[1]


@pytest.mark.parametrize("host", ["gateway.example", "gateway.example:8443"])
def test_the_gateway_sees_its_own_name_and_one_request_a_connection(host: str) -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1:47001\r\nX-Api-Key: k\r\nConnection: keep-alive\r\n\r\n"
    expected = f"POST /v1/messages HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Api-Key: k\r\n\r\n"
    assert rewrite_head(head, urlsplit(f"https://{host}/base")) == expected.encode()
