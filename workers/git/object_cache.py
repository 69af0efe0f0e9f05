"""Objects of repositories that a shard keeps between jobs, apart for each tenant and each repository.

Below the folder of the cache, which only the shard's user may enter, each repository has::

    KEY/objects/pack/   packs that git fetched and checked; later jobs read them, and nothing changes them
    KEY/manifest.json   digests of the packs, and commits whose whole history they have
    KEY/tenant          digest of the tenant, because each one has its share of the room
    KEY.lock            locked by each job that uses the packs, and alone by a job that removes them
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from myctobot.contract import file_locks
from workers.git.cleanup import remove_tree

log = logging.getLogger("runner")

MB: Final = 2**20
# git searches each pack for each object, so a repository with more of them is fetched as a whole again.
MAX_PACKS: Final = 50
# The commits tell the server what the shard has. The newest of each branch say almost all.
MAX_TIPS: Final = 200
MAX_MANIFEST: Final = MB
# A tenant's files do not stay for ever on a shard that its jobs do not use any more.
MAX_UNUSED_S: Final = 14 * 24 * 3600
CHUNK: Final = 4 * MB
DIGEST_LENGTH: Final = 64
# The cache leaves this part of the disk free, or this many bytes if they are less.
FREE_PART: Final = 5
FREE_BYTES: Final = 4096 * MB
_PACK: Final = re.compile(r"pack-(?:[0-9a-f]{40}|[0-9a-f]{64})\.(?:pack|idx)")
_TIP: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_KEY: Final = re.compile(r"[0-9a-f]{64}")


class DamagedObjects(Exception):
    """A kept file is not as it was written."""


@dataclass
class PackManifest:
    """Content of a repository's kept objects.

    Args:
        object_format: ``sha1`` or ``sha256``.
        tips: commits whose whole history is kept, the newest last.
        files: size and SHA-256 of each file.
    """

    object_format: str
    tips: list[str] = field(default_factory=list)
    files: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(size for size, _ in self.files.values())

    @property
    def is_crowded(self) -> bool:
        """Tell whether there are so many packs that the repository is better fetched as a whole."""
        return len(self.files) >= 2 * MAX_PACKS


@dataclass(frozen=True)
class KeptEntry:
    """Kept objects of one repository.

    Args:
        used: time of the last use, in seconds since the epoch.
        size: size in bytes.
        tenant: digest of the tenant; empty for objects of an earlier release.
    """

    folder: Path
    used: float
    size: int
    tenant: str


def choose_removal(entries: Sequence[KeptEntry], needed: int, owner: str, fixed: Collection[Path]) -> KeptEntry | None:
    """Return the repository that makes room: of the tenant that uses most, the one not used for the longest time.

    No tenant takes room from one that uses less than itself, so the result is None if only those are left.

    Args:
        needed: bytes that ``owner`` adds.
        owner: digest of the tenant that needs room.
        fixed: folders that stay.
    """
    sizes: Counter[str] = Counter()
    for entry in entries:
        sizes[entry.tenant] += entry.size
    sizes[owner] += needed
    for tenant in sorted(sizes, key=lambda name: (-sizes[name], name != owner)):
        mine = [entry for entry in entries if entry.tenant == tenant and entry.folder not in fixed]
        if mine:
            return min(mine, key=lambda entry: entry.used)
        if tenant == owner:
            break
    return None


class ObjectCache:
    """Cache of a shard.

    Args:
        folder: folder of the cache, which is created when it is needed.
        max_mb: bound of all kept objects together.
    """

    def __init__(self, folder: Path, max_mb: int) -> None:
        self._folder, self._max_bytes = folder, max_mb * MB

    def open(self, tenant: str, repository: str) -> KeptObjects:
        """Lock the objects of one repository of one tenant against removal; the caller must close them.

        Raises:
            OSError: the folder cannot be used.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The length keeps the two names apart, because both may have any character.
        key = hashlib.sha256(f"{len(tenant)} {tenant} {repository}".encode()).hexdigest()
        lock = _lock(self._folder / f"{key}.lock", fcntl.LOCK_SH)
        try:
            (self._folder / key / "objects" / "pack").mkdir(parents=True, exist_ok=True)
            for folder in (key, f"{key}/objects", f"{key}/objects/pack"):
                # The agent's user reads the objects through a mount, which no other user can reach.
                (self._folder / folder).chmod(0o755)
            _write_tenant(self._folder / key, tenant)
        except BaseException:
            file_locks.release(lock)
            raise
        return KeptObjects(self, self._folder / key, lock, tenant, repository)

    def make_room(self, needed: int, keep: Path) -> bool:
        """Remove objects until there is room within the bound; see ``choose_removal``.

        Args:
            needed: bytes of room.
            keep: folder of the repository that needs it, which stays.
        """
        entries, owner, fixed = self._entries(), _read_tenant(keep), {keep}
        for old in [entry for entry in entries if entry.used <= time.time() - MAX_UNUSED_S and entry.folder != keep]:
            if self.remove(old.folder):
                entries.remove(old)
        while sum(entry.size for entry in entries) + needed > self._max_bytes:
            if (chosen := choose_removal(entries, needed, owner, fixed)) is None:
                return False
            if self.remove(chosen.folder):
                entries.remove(chosen)
            else:
                fixed.add(chosen.folder)
        return True

    def clear(self) -> None:
        """Remove everything that no job uses."""
        for entry in self._entries():
            self.remove(entry.folder)

    def _entries(self) -> list[KeptEntry]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for folder in self._folder.iterdir():
                if _KEY.fullmatch(folder.name):
                    with contextlib.suppress(FileNotFoundError):
                        size = sum(file.stat().st_size for file in (folder / "objects" / "pack").iterdir())
                        found.append(KeptEntry(folder, folder.stat().st_mtime, size, _read_tenant(folder)))
        return found

    def remove(self, folder: Path) -> bool:
        """Remove the objects of a repository unless a job uses them."""
        path = folder.with_name(f"{folder.name}.lock")
        try:
            lock = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            remove_tree(folder)
            path.unlink()
        finally:
            file_locks.release(lock)
        return True


class KeptObjects:
    """Kept objects of one repository, which stay until ``close``."""

    def __init__(self, cache: ObjectCache, folder: Path, lock: int, tenant: str, repository: str) -> None:
        self._cache, self._lock = cache, lock
        self.folder, self._tenant, self._repository = folder, tenant, repository
        self.objects = folder / "objects"

    def verify(self) -> PackManifest | None:
        """Read all kept files and compare them with their digests; None when there are none.

        Raises:
            DamagedObjects: a file differs or is missing, such as after a crash of the machine.
            OSError: the disk cannot be read.
        """
        manifest = self._read()
        if manifest is None:
            return None
        for name, (size, digest) in manifest.files.items():
            path = self.objects / "pack" / name
            try:
                if path.stat().st_size != size or _digest(path) != digest:
                    raise DamagedObjects(name)
            except FileNotFoundError as error:
                raise DamagedObjects(name) from error
        os.utime(self.folder)
        return manifest

    def renew(self) -> KeptObjects | None:
        """Remove objects that cannot be used any more, and open the empty folder; None while another job uses them.

        Raises:
            OSError: see ``ObjectCache.open``.
        """
        self.close()
        return self._cache.open(self._tenant, self._repository) if self._cache.remove(self.folder) else None

    def keep(self, packs: Path, tips: list[str], object_format: str) -> bool:
        """Keep the packs of a folder; False when there is no room for them.

        Args:
            packs: folder with packs that git fetched and checked.
            tips: commits whose whole history is in these packs and those that are kept already.

        Raises:
            OSError: a file cannot be read or written.
        """
        with self._writing():
            manifest = self._read() or PackManifest(object_format)
            # An earlier job that was killed left them.
            for draft in (self.objects / "pack").glob("draft-*"):
                draft.unlink()
            new = [path for path in sorted(packs.iterdir(), reverse=True) if _PACK.fullmatch(path.name)]
            new = [path for path in new if path.name not in manifest.files]
            if manifest.object_format != object_format or len(manifest.files) + len(new) > 2 * MAX_PACKS:
                return False
            size = sum(path.stat().st_size for path in new)
            if not self._cache.make_room(size, self.folder):
                return False
            disk = shutil.disk_usage(self.folder)
            if disk.free - size < min(disk.total // FREE_PART, FREE_BYTES):
                return False
            # The names sort so that git sees an index only after its pack.
            for path in new:
                manifest.files[path.name] = _copy(path, self.objects / "pack" / path.name)
            known = [tip for tip in manifest.tips if tip not in tips]
            manifest.tips = [*known, *tips][-MAX_TIPS:]
            self._write(manifest)
        return True

    def close(self) -> None:
        """Allow the removal; the method may be called again."""
        if self._lock >= 0:
            file_locks.release(self._lock)
            self._lock = -1

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep out other jobs that add packs."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            file_locks.release(folder)

    def _read(self) -> PackManifest | None:
        try:
            with (self.folder / "manifest.json").open("rb") as file:
                values = json.loads(file.read(MAX_MANIFEST))
            return _parse(values)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedObjects("manifest.json") from error

    def _write(self, manifest: PackManifest) -> None:
        text = json.dumps({"format": manifest.object_format, "tips": manifest.tips, "files": manifest.files})
        draft = self.folder / "manifest.draft"
        draft.write_text(text)
        draft.rename(self.folder / "manifest.json")


def _write_tenant(folder: Path, tenant: str) -> None:
    # A change of the folder counts as a use, and a job that only opens it does not use the objects.
    if not _read_tenant(folder):
        (folder / "tenant").write_text(hashlib.sha256(tenant.encode()).hexdigest())


def _read_tenant(folder: Path) -> str:
    try:
        with (folder / "tenant").open() as file:
            return file.read(DIGEST_LENGTH)
    except FileNotFoundError:
        return ""


def _parse(values: Any) -> PackManifest:
    files = {str(name): (int(size), str(digest)) for name, (size, digest) in values["files"].items()}
    tips = [str(tip) for tip in values["tips"]]
    if not all(map(_PACK.fullmatch, files)) or not all(map(_TIP.fullmatch, tips)):
        raise ValueError("a name is not one of git's")
    return PackManifest(str(values["format"]), tips, files)


def _lock(path: Path, how: int) -> int:
    """Open and lock a file; another process may remove it at the same time."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, how)
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(lock).st_ino:
                    return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file under a name that git ignores until it is complete; return its size and digest."""
    draft = target.with_name(f"draft-{secrets.token_hex(8)}")
    digest, size = hashlib.sha256(), 0
    try:
        with source.open("rb", buffering=0) as reader, draft.open("xb") as writer:
            while chunk := reader.read(CHUNK):
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
        draft.chmod(0o444)
        draft.rename(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return size, digest.hexdigest()
