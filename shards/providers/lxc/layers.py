"""Templates as read-only layers: each build holds only what it adds to the builds below it.

<path>/builds/<name>-<digest>-<time>/rootfs, manifest.json     one layer
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from shards.providers.errors import ProviderError
from shards.providers.lxc.commands import run

# Every layer must be whole when it is read alone, so no directory or file may point into a layer below.
_OPTIONS: Final = "index=off,metacopy=off,redirect_dir=off"


@dataclass(frozen=True)
class Manifest:
    """The contents of a template.

    Attributes:
        digest: of its inputs; the same inputs need no new build.
        packages: every Debian package with its version.
        below: the folders of the builds that it adds to, the nearest first.
    """

    name: str
    digest: str
    suite: str
    built_at: str
    packages: dict[str, str]
    below: list[str] = field(default_factory=list)


def manifest(folder: Path) -> Manifest | None:
    """Read the manifest in a template's folder."""
    try:
        return Manifest(**json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def layers(template: Path) -> list[Path]:
    """List the root file systems that together are a template, the topmost first.

    Raises:
        ProviderError: one of them is missing.
    """
    found = manifest(template)
    folders = [template / "rootfs", *(Path(one) / "rootfs" for one in (found.below if found else ()))]
    for folder in folders:
        if not folder.is_dir():
            raise ProviderError(f"The template {template.name} lacks its layer {folder}: build it again with --again.")
    return folders


def has_file(template: Path, name: str) -> bool:
    """Tell if a template holds a regular file of that name; a layer hides what is below it."""
    highest = next((layer / name for layer in layers(template) if os.path.lexists(layer / name)), None)
    return highest is not None and highest.is_file()


def mount_over(lower: Sequence[Path], upper: Path, target: Path) -> None:
    """Mount layers at ``target``, so that all changes go to ``upper``; its neighbour ``work`` is the kernel's."""
    work = upper.with_name("work")
    for folder in (upper, work, target):
        folder.mkdir(mode=0o755, exist_ok=True)
    # Its mode is that of the root folder, independent of the caller's umask.
    upper.chmod(lower[0].stat().st_mode & 0o7777)
    stack = f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "-o", f"{_OPTIONS},{stack}", "overlay", str(target))


@contextmanager
def shown(template: Path) -> Iterator[Path]:
    """Show the whole root file system of a template, read-only, until the block ends."""
    found = layers(template)
    if len(found) == 1:
        yield found[0]
        return
    target = Path(mkdtemp(prefix=".shown-", dir=found[0].parent.parent))
    try:
        run("mount", "-t", "overlay", "-o", f"ro,lowerdir={':'.join(map(str, found))}", "overlay", str(target))
        try:
            yield target
        finally:
            run("umount", str(target))
    finally:
        target.rmdir()
