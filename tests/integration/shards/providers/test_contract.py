"""Contract of all providers, for those without real containers; tests/lxc covers the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.providers.base import Provider
from shards.providers.memory import MemoryProvider
from shards.providers.process.provider import ProcessProvider
from tests.fixtures.provider_contract import Notes, ProviderContract


class TestMemory(ProviderContract):
    @pytest.fixture
    def maker(self) -> MemoryProvider:
        return MemoryProvider()

    def environment(self, maker: Provider, ref: str) -> dict[str, str]:
        assert isinstance(maker, MemoryProvider)
        return maker.environment_of(ref)

    def write(self, maker: Provider, ref: str, mark: str) -> None:
        assert isinstance(maker, MemoryProvider)
        maker.write(ref, mark)

    def holds(self, maker: Provider, ref: str, mark: str) -> bool:
        assert isinstance(maker, MemoryProvider)
        return maker.holds(ref, mark)


class TestProcess(ProviderContract):
    @pytest.fixture
    def maker(self, tmp_path: Path) -> Iterator[ProcessProvider]:
        self.home = tmp_path
        maker = ProcessProvider(tmp_path)
        yield maker
        for one in maker.list():
            maker.destroy(one.ref, Notes())

    def environment(self, maker: Provider, ref: str) -> dict[str, str]:
        pid = json.loads((self.home / "run" / f"shard-{ref}.json").read_text())["pid"]
        pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
        return dict(pair.split("=", 1) for pair in pairs if pair)
