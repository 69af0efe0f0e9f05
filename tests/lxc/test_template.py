"""Build of a template from a bare Debian, without traces of the machine that built it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from shards.providers.errors import ProviderError
from shards.providers.lxc import storage, template
from shards.providers.lxc.chroot import BORROWED, Chroot
from shards.providers.lxc.commands import run
from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.layers import Manifest, has_file, manifest, shown
from shards.providers.lxc.provider import LxcProvider
from tests.fixtures.provider_contract import Notes

from .conftest import spec
from .inside import output, wait_booted
from .templates import link_template, sources_digest

SECRET = "http://builder:secret-of-the-builder@127.0.0.1:9"


@pytest.fixture
def root(host: LxcHost) -> Iterator[Path]:
    """Yield a folder for the builds of one test, over the base of all tests."""
    path = host.path / "own"
    path.mkdir(mode=0o711)
    link_template(path, template.BASE)
    yield path
    run("rm", "-r", str(path))


@pytest.fixture
def tiny(host: LxcHost) -> Iterator[Path]:
    """Yield a folder for builds over a base of a few folders, for tests that need no real system."""
    path = host.path / "tiny"
    base = path / "builds" / ".base-tiny"
    for folder in ("etc", "usr/sbin", "var/lib/dpkg", "var/log"):
        (base / "rootfs" / folder).mkdir(parents=True)
    (base / "rootfs/var/lib/dpkg/status").write_text("Package: base\nStatus: install ok installed\nVersion: 1\n")
    digest = template.digest_of(template.Recipe(below=""), [])
    made = Manifest(template.BASE, digest, template.SUITE, "2026-01-01T00:00:00+00:00", {})
    (base / "manifest.json").write_text(json.dumps(asdict(made)))
    (path / "templates").mkdir()
    (path / "templates" / template.BASE).symlink_to(base)
    yield path
    run("rm", "-r", str(path))


def over_ssh(chroot: Chroot, *command: str) -> str:
    with chroot.reached_by_ssh() as way:
        options = ("-F", "none", "-o", f"UserKnownHostsFile={way.known_hosts}", "-o", "BatchMode=yes")
        done = subprocess.run(
            ["ssh", *options, "-i", str(way.private_key), "-p", str(way.port), f"root@{way.host}", *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_template_is_configured_by_ssh_with_the_builders_package_sources(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", SECRET)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a key of the builder's")
    seen: dict[str, str] = {}

    def configure(chroot: Chroot) -> None:
        seen["sources"] = over_ssh(chroot, "apt-get", "indextargets", "--format", "'$(SITE)'")
        seen["environment"] = over_ssh(chroot, "env")
        over_ssh(chroot, "sh", "-c", "'echo configured >/etc/marker; pip --version >/dev/null 2>&1; true'")

    sources = sources_digest()
    made = template.build(root, "configured", configure=configure, packages=["hello"], sources=sources)
    assert template.mirror() in seen["sources"]
    assert f"PIP_INDEX_URL={SECRET}" in seen["environment"]
    assert "ANTHROPIC" not in seen["environment"]
    assert "hello" in made.packages
    with shown(root / "templates/configured") as rootfs:
        assert (rootfs / "etc/marker").read_text() == "configured\n"
        assert builder_traces(rootfs) == []


def builder_traces(rootfs: Path) -> list[str]:
    """Return the files that name the builder's package sources or that belong to one machine."""
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


def test_builder_traces_finds_planted_files(host: LxcHost, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/apt.conf").write_text(f"Proxy {SECRET};")
    (tmp_path / "etc/hosts").touch()
    assert sorted(map(os.path.basename, builder_traces(tmp_path))) == ["apt.conf", "hosts"]


def test_the_bare_template_has_no_builder_traces(host: LxcHost) -> None:
    with shown(host.path / "templates/bare") as rootfs:
        assert builder_traces(rootfs) == []
        assert (rootfs / "etc/machine-id").read_text() == ""


def test_a_failed_configuration_keeps_the_old_template_and_leaves_no_mounts(tiny: Path) -> None:
    first = template.build(tiny, "bare")
    builds = sorted((tiny / "builds").iterdir())

    def fail(chroot: Chroot) -> None:
        chroot.run("false")

    with pytest.raises(ProviderError, match="chroot failed"):
        template.build(tiny, "bare", configure=fail, inputs="2")
    assert manifest(tiny / "templates/bare") == first
    assert str(tiny) not in Path("/proc/self/mountinfo").read_text()
    assert sorted((tiny / "builds").iterdir()) == builds


def test_the_same_inputs_reuse_a_build(tiny: Path) -> None:
    first = template.build(tiny, "bare")
    assert template.build(tiny, "bare") == first
    assert template.build(tiny, "bare", inputs="2") != first
    assert template.build(tiny, "bare") != first
    first = template.build(tiny, "bare")
    built = tiny / "templates/bare"
    assert built.resolve().name.startswith(f"bare-{first.digest}-")
    assert manifest(built) == first


def test_a_container_keeps_the_build_of_its_creation(root: Path, host: LxcHost) -> None:
    maker = LxcProvider(replace(host, path=root))
    sources = sources_digest()
    template.build(root, "bare", sources=sources)
    ref = maker.create(spec(), Notes())
    template.build(root, "bare", inputs="2", sources=sources)
    maker.start(ref, Notes())
    assert wait_booted(maker, ref) == "running"
    assert output(maker, ref, "systemctl", "--failed", "--no-legend") == ""
    assert len(list((root / "builds").glob("bare-*"))) == 2
    maker.destroy(ref, Notes())
    template.prune(root, "bare")
    assert len(list((root / "builds").glob("bare-*"))) == 1
    template.remove(root, "bare")
    assert list((root / "builds").glob("bare-*")) == []


def add_layer(path: Path, name: str, below: str, inputs: str = "") -> Manifest:
    return template.build_layer(path, name, template.Recipe(below=below, inputs=inputs))


def test_a_layer_holds_only_what_it_adds(tiny: Path) -> None:
    add_layer(tiny, ".common", template.BASE)
    top = template.build(tiny, "top", below=".common")
    assert [Path(one).name.split("-")[0] for one in top.below] == [".common", ".base"]
    assert not (tiny / "templates/top/rootfs/var/lib/dpkg/status").exists()
    with shown(tiny / "templates/top") as whole:
        assert (whole / "var/lib/dpkg/status").exists()
    assert str(tiny) not in Path("/proc/self/mountinfo").read_text()
    assert storage.templates(tiny) == ["top"]


def test_a_changed_lower_layer_causes_a_new_build(tiny: Path) -> None:
    add_layer(tiny, ".common", template.BASE)
    first = template.build(tiny, "top", below=".common")
    assert template.build(tiny, "top", below=".common") == first
    add_layer(tiny, ".common", template.BASE, inputs="2")
    assert template.build(tiny, "top", below=".common").digest != first.digest


def test_a_layer_stays_while_a_build_needs_it(tiny: Path) -> None:
    add_layer(tiny, ".common", template.BASE)
    template.build(tiny, "top", below=".common")
    add_layer(tiny, ".common", template.BASE, inputs="2")
    assert len(list((tiny / "builds").glob(".common-*"))) == 2
    template.build(tiny, "top", below=".common")
    assert len(list((tiny / "builds").glob(".common-*"))) == 1


def test_prune_removes_nothing_during_a_build_of_that_name(tiny: Path) -> None:
    add_layer(tiny, ".common", template.BASE)
    (tiny / "templates/.common").unlink()
    with (tiny / "builds/..common.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        template.prune(tiny, ".common")
        assert len(list((tiny / "builds").glob(".common-*"))) == 1
    template.prune(tiny, ".common")
    assert list((tiny / "builds").glob(".common-*")) == []


def test_remove_ignores_a_folder_without_builds(tmp_path: Path) -> None:
    template.remove(tmp_path, "top")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_layer_is_named(tiny: Path) -> None:
    with pytest.raises(ProviderError, match=r"no layer '\.common'"):
        template.build(tiny, "top", below=".common")
    add_layer(tiny, ".common", template.BASE)
    template.build(tiny, "top", below=".common")
    shutil.rmtree((tiny / "templates/.common").resolve())
    with pytest.raises(ProviderError, match="lacks its layer"), shown(tiny / "templates/top"):
        pass


def test_a_template_lacks_a_file_that_its_layer_removed(root: Path) -> None:
    sources = sources_digest()
    template.build(root, "bare", sources=sources)
    assert has_file(root / "templates/bare", "etc/ssh/sshd_config")

    def remove(chroot: Chroot) -> None:
        chroot.run("rm", "/etc/ssh/sshd_config")

    template.build(root, "changed", sources=sources, configure=remove)
    assert not has_file(root / "templates/changed", "etc/ssh/sshd_config")
    with shown(root / "templates/changed") as whole:
        assert not (whole / "etc/ssh/sshd_config").exists()
