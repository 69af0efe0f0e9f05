"""A container's file system: a disk of its own laid over its template, and copies of that disk.

The disk is a sparse file with ext4, as large as the limit. It holds the upper layer of an overlay; the lower one is the
template, read-only, with the container's own user numbers. Making one takes milliseconds, whatever the template holds.
A snapshot is a copy of the file, whose holes stay holes.
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
from shards.providers.lxc.records import OWNER_ONLY, Place

_MB = 1024 * 1024
_REMOVED = ".removed."
_COPY_TIMEOUT_S = 600
_UNMOUNT_TIMEOUT_S = 10
# No table is written before it is needed, and what is deleted inside is given back to the host.
_FORMAT = ("-q", "-F", "-m", "0", "-J", "size=8", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
_MOUNT_DISK = "loop,nodev,noatime,noinit_itable,discard"


def check_room(folder: Path, disk_mb: int) -> None:
    """Refuse a disk that could not be filled.

    Raises:
        OutOfRoom: there is less free than it may take.
    """
    free_mb = shutil.disk_usage(folder).free // _MB
    if free_mb < disk_mb:
        raise OutOfRoom(f"{folder} has {free_mb} MB free, and the container may take {disk_mb} MB.")


def used_mb(image: Path) -> int:
    """What a disk takes of the host's, without its holes."""
    return image.stat().st_blocks * 512 // _MB


def make_disk(place: Place, disk_mb: int, first_id: int) -> None:
    """Make an empty disk with the two folders of an overlay."""
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


def mount(place: Place, template: Path, first_id: int) -> None:
    """Put the root file system together; harmless where it is."""
    there = set(_mounts(place.path))
    for folder in (place.lower, place.disk, place.rootfs):
        folder.mkdir(mode=OWNER_ONLY, exist_ok=True)
    if place.lower not in there:
        bind_mapped(template / "rootfs", place.lower, first_id, IDS_PER_CONTAINER)
    if place.disk not in there:
        run("mount", "-o", _MOUNT_DISK, str(place.image), str(place.disk))
    if place.rootfs not in there:
        layers = f"lowerdir={place.lower},upperdir={place.disk}/upper,workdir={place.disk}/work"
        run("mount", "-t", "overlay", "-o", f"nodev,{layers}", "overlay", str(place.rootfs))


def unmount(place: Place) -> None:
    """Take it apart; harmless where nothing is mounted.

    Raises:
        ProviderError: something still uses it.
    """
    if place.disk in _mounts(place.path):
        # Another mount namespace may hold a copy, and then unmounting writes nothing.
        attempt("fsfreeze", "--unfreeze", str(place.disk))
        run("sync", "--file-system", str(place.disk), timeout_s=60)
    unmount_below(place.path)


def unmount_below(folder: Path) -> None:
    """Unmount whatever is mounted in a folder, and wait for what is just being let go."""
    deadline = time.monotonic() + _UNMOUNT_TIMEOUT_S
    for target in _mounts(folder):
        while (done := attempt("umount", str(target))).returncode:
            if time.monotonic() > deadline:
                raise failure(("umount",), done.stderr)
            time.sleep(0.1)


def copy_image(source: Path, target: Path) -> None:
    """Copy a disk that nobody writes to, in place of the one that is there; the old one stays until all is copied."""
    part = target.with_name(f".{target.name}.part")
    try:
        run("cp", "--sparse=auto", "--reflink=auto", str(source), str(part), timeout_s=_COPY_TIMEOUT_S)
        part.chmod(0o600)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def still(place: Place) -> Iterator[None]:
    """Let nobody write to the disk for a moment; whoever tries waits."""
    if place.disk not in _mounts(place.path):
        yield
        return
    run("fsfreeze", "--freeze", str(place.disk), timeout_s=60)
    try:
        yield
    finally:
        run("fsfreeze", "--unfreeze", str(place.disk))


def add_file(place: Place, name: str, text: str, first_id: int, mode: int = 0o644) -> None:
    """Write a file of the container's root over what the template has; only before anything ran in it.

    Its folders get the same owner, and those that are new here the mode of a system's folders.
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


def remove(place: Place) -> None:
    """Delete the folder. It loses its name first, so that nobody finds half of it."""
    unmount(place)
    removed = place.path.with_name(f"{_REMOVED}{place.ref}")
    place.path.rename(removed)
    shutil.rmtree(removed)


def clear_removed(root: Path) -> None:
    """Delete what a ``remove`` left that was killed."""
    for path in (root / "containers").glob(f"{_REMOVED}*"):
        shutil.rmtree(path, ignore_errors=True)


def _mounts(folder: Path) -> list[Path]:
    """Where something is mounted in the folder, the last one first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        target = Path(line.split(" ")[4])
        if target.is_relative_to(folder) and target != folder:
            found.append(target)
    return found[::-1]


def template_folder(root: Path, image: str) -> Path:
    """The folder of a template, as it stands now: a newer build of the same name gets another one.

    Raises:
        ProviderError: there is none of that name; the error names those that there are.
    """
    folder = root / "templates" / image
    if image and "/" not in image and not image.startswith(".") and (folder / "rootfs").is_dir():
        return folder.resolve()
    known = ", ".join(templates(root)) or "none yet"
    raise ProviderError(
        f"There is no template '{image[:60]}' (known: {known}). Build it with 'manage.py lxc template build NAME'."
    )


def templates(root: Path) -> list[str]:
    """The names of all templates."""
    folder = root / "templates"
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if (path / "rootfs").is_dir() and path.name[:1] != ".")
