"""Archives of templates for Proxmox."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from myctobot.errors import InvalidRequest
from shards.providers.errors import ProviderError
from shards.providers.lxc.archive import export


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rootfs = tmp_path / "templates/general/rootfs"
    for name in ("usr/sbin/ifup", "usr/sbin/dhclient", "etc/debian_version"):
        (rootfs / name).parent.mkdir(parents=True, exist_ok=True)
        (rootfs / name).write_text(name)
    (rootfs / "sbin").symlink_to("usr/sbin")
    return tmp_path


@pytest.mark.needs("zstd")
def test_it_holds_the_whole_file_system_from_its_root_on(root: Path) -> None:
    made = export(root, "general", root / "general-1.tar.zst")
    listed = subprocess.run(["tar", "-tf", made.path], capture_output=True, text=True, check=True, timeout=20)
    assert {"./etc/debian_version", "./sbin", "./usr/sbin/ifup"} <= set(listed.stdout.split())
    assert made.size == made.path.stat().st_size
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert [path.name for path in root.iterdir() if path.is_file()] == ["general-1.tar.zst"]


@pytest.mark.needs("zstd")
def test_the_same_template_makes_the_same_archive(root: Path) -> None:
    assert export(root, "general", root / "a.tar.zst").sha256 == export(root, "general", root / "b.tar.zst").sha256


@pytest.mark.parametrize("name", ["general", "general.tar", "general.tar.xz", "-x.tar.zst", ".tar.zst", "a b.tar.zst"])
def test_a_name_that_proxmox_would_not_take_is_refused(root: Path, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        export(root, "general", root / name)
    assert "file" in caught.value.fields


def test_a_template_without_a_network_says_how_to_build_it(root: Path) -> None:
    (root / "templates/general/rootfs/usr/sbin/dhclient").unlink()
    with pytest.raises(ProviderError, match="lxc template build general --package isc-dhcp-client"):
        export(root, "general", root / "general.tar.zst")


def test_a_failure_leaves_the_archive_that_was_there(root: Path) -> None:
    there = root / "there.tar.zst"
    there.write_text("old")
    with pytest.raises(ProviderError, match="known: general"):
        export(root, "other", there)
    assert there.read_text() == "old"
