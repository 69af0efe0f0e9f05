from __future__ import annotations

import pytest

from myctobot.contract.proxies import is_proxy_url


@pytest.mark.parametrize("text", ["http://10.0.0.1:3128", "https://proxy.example", "http://[fd00::1]:3128"])
def test_the_address_of_a_proxy(text: str) -> None:
    assert is_proxy_url(text)


@pytest.mark.parametrize(
    "text",
    ["", "x:1", "socks5://x:1", "http://", "http://me@x:1", "http://x:1/", "http://x:1?q", "http://x:1#f", "http://x:0",
     "http://x:99999", "http://[x:1"],
)  # fmt: skip
def test_what_is_more_or_something_else_is_none(text: str) -> None:
    assert not is_proxy_url(text)
