"""Export of a template as an archive that Proxmox VE accepts as ``ostemplate``."""

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
from shards.providers.lxc.layers import shown

# pve-storage requires this suffix.
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*\.tar\.zst")
_TIMEOUT_S: Final = 1800
# pve-container also unpacks with --xattrs and --acls, and skips ./dev.
_TAR: Final = (
    *("--create", "--sort=name", "--numeric-owner", "--one-file-system", "--sparse", "--acls", "--xattrs"),
    *("--xattrs-include=user.*", "--xattrs-include=security.capability", "--use-compress-program=zstd -T0"),
    # Without access times, the same template gives the same archive.
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
)
# Proxmox writes /etc/network/interfaces, so the container needs programs that read it.
_NETWORK: Final = {
    "ifupdown": ("usr/sbin/ifup", "sbin/ifup"),
    "isc-dhcp-client": ("usr/sbin/dhclient", "sbin/dhclient"),
}


@dataclass(frozen=True)
class Archive:
    """Archive that was written.

    Attributes:
        sha256: checksum that Proxmox can verify on an upload.
    """

    path: Path
    size: int
    sha256: str


def export(root: Path, name: str, target: Path) -> Archive:
    """Write a template to ``target``, replacing an existing file only after success.

    Args:
        root: LXC_PATH.

    Raises:
        InvalidRequest: Proxmox does not accept this file name.
        ProviderError: there is no such template, or its containers would have no network on Proxmox.
    """
    if not _FILE.fullmatch(target.name):
        raise InvalidRequest(fields={"file": ["Give a file whose name ends with .tar.zst, such as general.tar.zst."]})
    with shown(storage.template_folder(root, name)) as rootfs:
        _pack(rootfs, name, target)
    with target.open("rb") as file:
        return Archive(target, target.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _pack(rootfs: Path, name: str, target: Path) -> None:
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
