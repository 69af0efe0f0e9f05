"""Templates for the tests, which are kept between runs as long as their inputs stay the same."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shards.providers.lxc import role, template
from shards.providers.lxc.commands import attempt, run
from shards.providers.lxc.layers import Manifest
from tests.fixtures.provider_contract import Notes

TEMPLATES = Path("/var/cache/myctobot/tests")
BARE = "bare"
# A template for Proxmox needs these, as ``docs/runbook.md`` describes.
PACKAGES = ("ifupdown", "isc-dhcp-client")


@cache
def sources_digest() -> str:
    """Return a digest of the current signed indexes of this host's package sources.

    The indexes name every version of every package, so a template of other packages is never reused.
    """
    listed = run("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages")
    found = hashlib.sha256()
    with TemporaryDirectory() as folder:
        for line in sorted(set(listed.splitlines())):
            site, _, release = line.strip().partition(" ")
            index = Path(folder) / "InRelease"
            command = ("/usr/lib/apt/apt-helper", "download-file", f"{site}/dists/{release}/InRelease", str(index))
            done = attempt(*command, timeout_s=60)
            # A source with another layout has no packages of the suite, so its index may be missing.
            assert done.returncode == 0 or not release.startswith(template.SUITE), done.stderr
            found.update(line.encode() + (index.read_bytes() if index.exists() else b""))
            index.unlink(missing_ok=True)
    return found.hexdigest()


def bare_template(path: Path) -> None:
    """Build the template ``bare`` and add it to a folder for containers."""
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    template.build(TEMPLATES, BARE, sources=sources_digest())
    link_template(path, BARE)


def shard_template(path: Path, *names: str, kind: str = "general") -> None:
    """Add a shard's template, built by the Ansible role as ``docs/runbook.md`` does for Proxmox before 9.1.

    Args:
        names: names of the template in the folder; the name of its type by default.
        kind: the type of the shard.
    """
    _build(kind)
    link_template(path, kind, *(names or (kind,)))


def common_layer(path: Path) -> None:
    """Add the layer that the templates of all types share, for a test that builds its own template."""
    _build("general")
    link_template(path, role.COMMON)


def link_template(path: Path, kept: str, *names: str) -> None:
    """Link a template or a layer into a folder for containers, under its own name or others."""
    (path / "templates").mkdir(mode=0o711, parents=True, exist_ok=True)
    for name in names or (kept,):
        (path / "templates" / name).symlink_to((TEMPLATES / "templates" / kept).resolve())


def _build(kind: str) -> Manifest:
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    variables: dict[str, Any] = {**role.of_type(kind), "shard_ssh": True}
    return role.build(TEMPLATES, kind, variables, Notes(), packages=PACKAGES, sources=sources_digest())
