"""Configuration of templates by the Ansible role 'shard', without the identity of a shard."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from shards.providers.ansible import FOLDER, configure
from shards.providers.base import Journal
from shards.providers.lxc import template
from shards.providers.lxc.chroot import Chroot
from shards.providers.lxc.layers import Manifest

_TIMEOUT_S: Final = 3600
_CHECKOUT: Final = FOLDER.parent
_BUILDERS: Final = ("shards/providers/ansible.py", "shards/providers/lxc/role.py")
# What the role installs or goes by.
_INPUTS: Final = ("ansible", "workers", "myctobot/__init__.py", "myctobot/contract", *_BUILDERS)
# The layer below the templates of all types.
COMMON: Final = ".general"
# Variables by which types differ.
_OF_A_TYPE: Final = ("shard_mcp_servers", "shard_npm_servers", "shard_packages")


def of_type(name: str) -> dict[str, Any]:
    """Return the variables of a type of shard from ``ansible/types``; empty for other names."""
    path = FOLDER / "types" / f"{name}.yml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def build(
    root: Path, name: str, variables: Mapping[str, Any], journal: Journal, *, packages: Sequence[str] = (),
    inputs: str = "", sources: str = "", again: bool = False,
) -> Manifest:  # fmt: skip
    """Make a template of a shard: one layer that all types share, and one for what this type adds.

    Args:
        root: LXC_PATH.
        variables: of the role, with those of the type.
        packages, sources, again: see ``template.build``.
        inputs: another text means another build.
    """
    common = of_type("general") | {key: value for key, value in variables.items() if key not in _OF_A_TYPE}
    whole = {**common, **variables}
    below = template.Recipe(
        configure=lambda chroot: make_shard(chroot, common, journal),
        packages=packages,
        inputs=digest(common) + inputs,
        sources=sources,
        is_fresh=again,
    )
    template.build_layer(root, COMMON, below)
    # The role alone already makes a general shard.
    more = None if whole == common else lambda chroot: make_shard(chroot, whole, journal)
    return template.build(root, name, below=COMMON, configure=more, inputs=digest(whole) + inputs, sources=sources)


def digest(variables: Mapping[str, Any]) -> str:
    """A digest of all that the role goes by: another one means another build."""
    found = hashlib.sha256(repr(sorted(variables.items())).encode())
    for path in sorted(file for name in _INPUTS for file in _files(_CHECKOUT / name)):
        found.update(f"{path.relative_to(_CHECKOUT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def make_shard(chroot: Chroot, variables: Mapping[str, Any], journal: Journal) -> None:
    """Run the role in a root file system under construction.

    Args:
        variables: variables of the role; see ``ansible/roles/shard/defaults``.

    Raises:
        ProviderError: a task failed; with its message.
    """
    variables = {**variables, "shard_download_cache": chroot.downloads}
    with chroot.reached_by_ssh() as ssh:
        host_key = ssh.known_hosts.read_text(encoding="utf-8").split(" ", 1)[1].strip()
        configure(
            ssh.host, ssh.port, ssh.private_key, "template.yml", variables, journal, _TIMEOUT_S, host_key=host_key
        )
