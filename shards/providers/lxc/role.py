"""Makes a template a shard's, by the Ansible role: everything but who it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from shards.providers.ansible import FOLDER, configure
from shards.providers.base import Journal
from shards.providers.lxc.chroot import Chroot

_TIMEOUT_S: Final = 3600
_CHECKOUT: Final = FOLDER.parent
# What the role installs or goes by.
_INPUTS: Final = ("ansible", "workers", "jobs/__init__.py", "jobs/contract.py")


def of_type(name: str) -> dict[str, Any]:
    """The variables of a type of shard, by ``ansible/types``; of any other name there are none."""
    path = FOLDER / "types" / f"{name}.yml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def inputs(variables: Mapping[str, Any]) -> str:
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
        variables: of the role; see ``ansible/roles/shard/defaults``.

    Raises:
        ProviderError: a task failed; with its own words.
    """
    with chroot.reached_by_ssh() as ssh:
        host_key = ssh.known_hosts.read_text(encoding="utf-8").split(" ", 1)[1].strip()
        configure(
            ssh.host, ssh.port, ssh.private_key, "template.yml", variables, journal, _TIMEOUT_S, host_key=host_key
        )
