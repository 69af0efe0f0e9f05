"""Makes an archive of a template that Proxmox VE takes as ``ostemplate``."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from myctobot.errors import InvalidRequest
from shards.providers.errors import ProviderError
from shards.providers.lxc import storage
from shards.providers.lxc.commands import run

# As pve-storage wants names of such volumes to end.
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*\.tar\.zst")
_TIMEOUT_S: Final = 1800
# pve-container unpacks with --xattrs and --acls as well, and leaves ./dev out.
_TAR: Final = (
    *("--create", "--sort=name", "--numeric-owner", "--one-file-system", "--sparse", "--acls", "--xattrs"),
    *("--xattrs-include=user.*", "--xattrs-include=security.capability", "--use-compress-program=zstd -T0"),
    # Nothing of this moment, so that the same template makes the same archive.
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
)
# Proxmox writes /etc/network/interfaces, and something in the container has to go by it.
_NETWORK: Final = {
    "ifupdown": ("usr/sbin/ifup", "sbin/ifup"),
    "isc-dhcp-client": ("usr/sbin/dhclient", "sbin/dhclient"),
}


@dataclass(frozen=True)
class Archive:
    """What was written.

    Attributes:
        sha256: as Proxmox checks an upload, when it is told.
    """

    path: Path
    size: int
    sha256: str


def export(root: Path, name: str, target: Path) -> Archive:
    """Write a template into ``target``; what stands there is replaced when all went well.

    Args:
        root: LXC_PATH.

    Raises:
        InvalidRequest: Proxmox would not take a file of that name.
        ProviderError: there is no such template, or a container of it would have no network there.
    """
    if not _FILE.fullmatch(target.name):
        raise InvalidRequest(fields={"file": ["Give a file whose name ends with .tar.zst, such as general.tar.zst."]})
    rootfs = storage.template_folder(root, name) / "rootfs"
    if missing := [package for package, files in _NETWORK.items() if not any((rootfs / one).exists() for one in files)]:
        more = " ".join(f"--package {package}" for package in missing)
        raise ProviderError(
            f"The template {name} has no {' and no '.join(missing)}, without which it gets no address from Proxmox: "
            f"build it with 'manage.py lxc template build {name} {more}'."
        )
    draft = target.with_name(f".{target.name}.part")
    try:
        run("tar", *_TAR, f"--file={draft}", f"--directory={rootfs}", ".", timeout_s=_TIMEOUT_S)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    with target.open("rb") as file:
        return Archive(target, target.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
