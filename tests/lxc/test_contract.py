"""Contract of all providers, with real containers."""

from __future__ import annotations

from shards.providers.base import Provider
from shards.providers.lxc.provider import LxcProvider
from tests.fixtures.provider_contract import ProviderContract

from .conftest import TEMPLATE
from .inside import inside, output


class TestLxc(ProviderContract):
    image = TEMPLATE

    def environment(self, maker: Provider, ref: str) -> dict[str, str]:
        assert isinstance(maker, LxcProvider)
        pairs = output(maker, ref, "cat", "/proc/1/environ").split("\0")
        return dict(pair.split("=", 1) for pair in pairs if pair)

    def write(self, maker: Provider, ref: str, mark: str) -> None:
        assert isinstance(maker, LxcProvider)
        output(maker, ref, "touch", f"/root/{mark}")

    def holds(self, maker: Provider, ref: str, mark: str) -> bool:
        assert isinstance(maker, LxcProvider)
        return inside(maker, ref, "test", "-e", f"/root/{mark}").returncode == 0
