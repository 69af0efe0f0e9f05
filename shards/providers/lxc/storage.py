"""File system of a container: an overlay of its own disk over its template, and copies of the disk.

The disk is a sparse file with ext4, as large as the limit. It holds the upper layer of an overlay; the lower ones are
the layers of the template, read-only, with the container's own user numbers. Making one takes milliseconds, however
large the template is. A snapshot is a copy of the file, whose holes stay holes.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.providers.errors import OutOfRoom, ProviderError
from shards.providers.lxc.commands import attempt, failure, run
from shards.providers.lxc.host import IDS_PER_CONTAINER
from shards.providers.lxc.idmap import bind_mapped
from shards.providers.lxc.layers import layers
from shards.providers.lxc.records import OWNER_ONLY, ContainerFolder

_MB = 1024 * 1024
_REMOVED = ".removed."
_COPY_TIMEOUT_S = 600
_UNMOUNT_TIMEOUT_S = 10
# Tables are initialized lazily, and deleted blocks are returned to the host.
_FORMAT = ("-q", "-F", "-m", "0", "-J", "size=8", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
_MOUNT_DISK = "loop,nodev,noatime,noinit_itable,discard"


def check_room(folder: Path, disk_mb: int) -> None:
    """Check that the host has room for a full disk.

    Raises:
        OutOfRoom: the free space is smaller than the disk.
    """
    free_mb = shutil.disk_usage(folder).free // _MB
    if free_mb < disk_mb:
        raise OutOfRoom(f"{folder} has {free_mb} MB free, but the container may use {disk_mb} MB.")


def used_mb(image: Path) -> int:
    """Return the host's disk space that a sparse disk uses."""
    return image.stat().st_blocks * 512 // _MB


def make_disk(place: ContainerFolder, disk_mb: int, first_id: int) -> None:
    """Create an empty disk with the two folders of an overlay."""
    place.disk.mkdir(mode=OWNER_ONLY)
    with place.image.open("wb") as image:
        os.fchmod(image.fileno(), 0o600)
        image.truncate(disk_mb * _MB)
    run("mkfs.ext4", *_FORMAT, str(place.image))
    run("mount", "-o", _MOUNT_DISK, str(place.image), str(place.disk))
    place.disk.chmod(OWNER_ONLY)
    for folder in ("upper", "work"):
        (place.disk / folder).mkdir(mode=0o755)
    os.chown(place.disk / "upper", first_id, first_id)


def mount(place: ContainerFolder, template: Path, first_id: int) -> None:
    """Mount the root file system; does nothing if it is mounted."""
    there = set(_mounts(place.path))
    layered = layers(template)
    lower = [place.lower(number) for number in range(len(layered))]
    for folder in (*lower, place.disk, place.rootfs):
        folder.mkdir(mode=OWNER_ONLY, exist_ok=True)
    for layer, folder in zip(layered, lower, strict=True):
        if folder not in there:
            bind_mapped(layer, folder, first_id, IDS_PER_CONTAINER)
    if place.disk not in there:
        run("mount", "-o", _MOUNT_DISK, str(place.image), str(place.disk))
    if place.rootfs not in there:
        stack = f"lowerdir={':'.join(map(str, lower))},upperdir={place.disk}/upper,workdir={place.disk}/work"
        run("mount", "-t", "overlay", "-o", f"nodev,{stack}", "overlay", str(place.rootfs))


def unmount(place: ContainerFolder) -> None:
    """Unmount the root file system; does nothing if it is not mounted.

    Raises:
        ProviderError: a process still uses it.
    """
    if place.disk in _mounts(place.path):
        # If another mount namespace has a copy of the mount, unmounting would not write the data.
        attempt("fsfreeze", "--unfreeze", str(place.disk))
        run("sync", "--file-system", str(place.disk), timeout_s=60)
    unmount_below(place.path)


def unmount_below(folder: Path) -> None:
    """Unmount all mounts in a folder, and wait for those that are still in use."""
    deadline = time.monotonic() + _UNMOUNT_TIMEOUT_S
    for target in _mounts(folder):
        while (done := attempt("umount", str(target))).returncode:
            if time.monotonic() > deadline:
                raise failure(("umount",), done.stderr)
            time.sleep(0.1)


def copy_image(source: Path, target: Path) -> None:
    """Copy an unused disk, and replace the target only after the copy is complete."""
    part = target.with_name(f".{target.name}.part")
    try:
        run("cp", "--sparse=auto", "--reflink=auto", str(source), str(part), timeout_s=_COPY_TIMEOUT_S)
        part.chmod(0o600)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def still(place: ContainerFolder) -> Iterator[None]:
    """Freeze the disk for a moment; writing processes wait."""
    if place.disk not in _mounts(place.path):
        yield
        return
    run("fsfreeze", "--freeze", str(place.disk), timeout_s=60)
    try:
        yield
    finally:
        run("fsfreeze", "--unfreeze", str(place.disk))


def add_file(place: ContainerFolder, name: str, text: str, first_id: int, mode: int = 0o644) -> None:
    """Write a file of the container's root over the template, before the container's first start.

    New folders get the same owner and the usual mode of system folders.
    """
    upper = place.disk / "upper"
    path = upper / name
    for folder in reversed(path.relative_to(upper).parents[:-1]):
        if not (upper / folder).exists():
            (upper / folder).mkdir(mode=OWNER_ONLY if folder.name in ("root", ".ssh") else 0o755)
            os.chown(upper / folder, first_id, first_id)
    path.touch(mode=mode)
    path.write_text(text, encoding="utf-8")
    os.chown(path, first_id, first_id)


def remove(place: ContainerFolder) -> None:
    """Delete the folder. Rename it first, so that a partly deleted folder is never found."""
    unmount(place)
    removed = place.path.with_name(f"{_REMOVED}{place.ref}")
    place.path.rename(removed)
    shutil.rmtree(removed)


def clear_removed(root: Path) -> None:
    """Delete leftovers of a killed ``remove``."""
    for path in (root / "containers").glob(f"{_REMOVED}*"):
        shutil.rmtree(path, ignore_errors=True)


def _mounts(folder: Path) -> list[Path]:
    """Return the mount points in the folder, the latest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        target = Path(line.split(" ")[4])
        if target.is_relative_to(folder) and target != folder:
            found.append(target)
    return found[::-1]


def template_folder(root: Path, image: str) -> Path:
    """Return the present folder of a template; a newer build of the same name gets another folder.

    Raises:
        ProviderError: there is no such template; the error lists the known ones.
    """
    folder = root / "templates" / image
    if image and "/" not in image and not image.startswith(".") and (folder / "rootfs").is_dir():
        return folder.resolve()
    known = ", ".join(templates(root)) or "none yet"
    raise ProviderError(
        f"There is no template '{image[:60]}' (known: {known}). Build it with 'manage.py lxc template build NAME'."
    )


def templates(root: Path) -> list[str]:
    """Return the names of all templates."""
    folder = root / "templates"
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if (path / "rootfs").is_dir() and path.name[:1] != ".")
