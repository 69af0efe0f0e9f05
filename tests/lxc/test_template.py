"""A template is built from a bare Debian, and keeps nothing of the machine that built it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shards.providers.errors import ProviderError
from shards.providers.lxc import template
from shards.providers.lxc.chroot import BORROWED, Chroot
from shards.providers.lxc.commands import run
from shards.providers.lxc.host import Host
from shards.providers.lxc.provider import LxcProvider
from tests.fixtures.provider_contract import Notes

from .conftest import spec
from .inside import output, wait_booted

SECRET = "http://builder:secret-of-the-builder@127.0.0.1:9"


@pytest.fixture
def root(host: Host) -> Iterator[Path]:
    """A folder for builds of this test's own."""
    path = host.path / "own"
    path.mkdir(mode=0o711)
    yield path
    run("rm", "-r", str(path))


@pytest.fixture
def tiny(host: Host) -> Iterator[Path]:
    """A cache whose minimal system is a few folders, for what does not depend on a real one."""
    cache = host.path / "tiny"
    digest = hashlib.sha256("\n".join((template.SUITE, *template.PACKAGES)).encode()).hexdigest()[:12]
    base = cache / f"{template.SUITE}-{digest}"
    for folder in ("etc", "usr/sbin", "var/lib/dpkg", "var/log"):
        (base / folder).mkdir(parents=True)
    (base / "var/lib/dpkg/status").write_text("Package: base\nStatus: install ok installed\nVersion: 1\n")
    yield cache
    shutil.rmtree(cache)


def over_ssh(chroot: Chroot, *command: str) -> str:
    with chroot.reached_by_ssh() as way:
        options = ("-F", "none", "-o", f"UserKnownHostsFile={way.known_hosts}", "-o", "BatchMode=yes")
        done = subprocess.run(
            ["ssh", *options, "-i", str(way.private_key), "-p", str(way.port), f"root@{way.host}", *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_configured_by_ssh_with_the_builders_way_to_packages(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", SECRET)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a key of the builder's")
    seen: dict[str, str] = {}

    def configure(chroot: Chroot) -> None:
        seen["sources"] = over_ssh(chroot, "apt-get", "indextargets", "--format", "'$(SITE)'")
        seen["environment"] = over_ssh(chroot, "env")
        over_ssh(chroot, "sh", "-c", "'echo configured >/etc/marker; pip --version >/dev/null 2>&1; true'")

    made = template.build(root, "configured", configure=configure, packages=["hello"])
    rootfs = root / "templates/configured/rootfs"
    assert template.mirror() in seen["sources"]
    assert f"PIP_INDEX_URL={SECRET}" in seen["environment"]
    assert "ANTHROPIC" not in seen["environment"]
    assert (rootfs / "etc/marker").read_text() == "configured\n"
    assert "hello" in made.packages
    assert remains(rootfs) == []


def remains(rootfs: Path) -> list[str]:
    """Files that name where the builder got things from, or that are one machine's own."""
    own = [
        *(
            "etc/resolv.conf",
            "etc/hosts",
            "etc/hostname",
            "etc/pip.conf",
            "etc/apt/sources.list",
            "usr/sbin/policy-rc.d",
        ),
        *("root/.ssh", "root/.npmrc", "etc/apt/apt.conf", "run/borrowed", "var/log/bootstrap.log"),
    ]
    found = [name for name in own if (rootfs / name).exists()]
    found += [str(path) for pattern in ("etc/ssh/ssh_host_*", "run/*", "dev/*", "etc/apt/sources.list.d/*")
              for path in rootfs.glob(pattern)]  # fmt: skip
    words = [b"secret-of-the-builder", str(BORROWED).encode(), template.mirror().encode()]
    pattern = re.compile(b"|".join(map(re.escape, words)))
    for folder in ("etc", "root", "var", "home", "tmp", "opt", "srv", "usr/local", "usr/sbin"):
        for path in (rootfs / folder).rglob("*"):
            if path.is_file() and not path.is_symlink() and pattern.search(path.read_bytes()):
                found.append(str(path))
    return found


def test_the_search_for_remains_finds_some(host: Host, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/apt.conf").write_text(f"Proxy {SECRET};")
    (tmp_path / "etc/hosts").touch()
    assert sorted(map(os.path.basename, remains(tmp_path))) == ["apt.conf", "hosts"]


def test_the_bare_one_has_nothing_of_the_builder(host: Host) -> None:
    assert remains(host.path / "templates/bare/rootfs") == []
    assert (host.path / "templates/bare/rootfs/etc/machine-id").read_text() == ""


def test_a_configuration_that_fails_leaves_the_old_one_and_no_mounts(root: Path, tiny: Path) -> None:
    first = template.build(root, "bare", cache=tiny)

    def fail(chroot: Chroot) -> None:
        chroot.run("false")

    with pytest.raises(ProviderError, match="chroot failed"):
        template.build(root, "bare", configure=fail, inputs="2", cache=tiny)
    assert template.manifest(root / "templates/bare") == first
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    assert len([path for path in (root / "builds").iterdir() if path.is_dir()]) == 1


def test_the_same_inputs_need_no_new_build(root: Path, tiny: Path) -> None:
    first = template.build(root, "bare", cache=tiny)
    assert template.build(root, "bare", cache=tiny) == first
    assert template.build(root, "bare", cache=tiny, inputs="2") != first
    assert template.build(root, "bare", cache=tiny) != first
    first = template.build(root, "bare", cache=tiny)
    built = root / "templates/bare"
    assert built.resolve().name.startswith(f"bare-{first.digest}-")
    assert template.manifest(built) == first


def test_a_container_keeps_the_build_that_it_was_made_from(root: Path, host: Host, tiny: Path) -> None:
    maker = LxcProvider(replace(host, path=root))
    template.build(root, "bare")
    ref = maker.create(spec(), Notes())
    template.build(root, "bare", inputs="2", cache=tiny)
    maker.start(ref, Notes())
    assert wait_booted(maker, ref) == "running"
    assert output(maker, ref, "systemctl", "--failed", "--no-legend") == ""
    assert len(list((root / "builds").glob("bare-*"))) == 2
    maker.destroy(ref, Notes())
    template.prune(root, "bare")
    assert len(list((root / "builds").glob("bare-*"))) == 1
    template.remove(root, "bare")
    assert list((root / "builds").glob("bare-*")) == []
