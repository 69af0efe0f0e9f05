"""Folders of containers and their records with owner, slot and completeness.

<path>/lock                      held while a name and a slot are reserved
<path>/templates/<name>          a template, see ``template``
<path>/containers/<ref>/record.json, lock, config, disk.img, snapshots/<label>.img, lower*/, disk/, rootfs/
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from myctobot.contract import file_locks
from shards.providers.base import ContainerSpec
from shards.providers.errors import ProviderBusy, ProviderError

# A container's root must traverse the folder to its file system without listing it.
PASS_THROUGH = 0o711
OWNER_ONLY = 0o700


@dataclass(frozen=True)
class ContainerFolder:
    """Folder of one container."""

    path: Path

    @property
    def ref(self) -> str:
        return self.path.name

    @property
    def record(self) -> Path:
        return self.path / "record.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def config(self) -> Path:
        return self.path / "config"

    @property
    def image(self) -> Path:
        """Return the file of its disk."""
        return self.path / "disk.img"

    @property
    def disk(self) -> Path:
        """Return the mount point of its disk."""
        return self.path / "disk"

    def lower(self, number: int) -> Path:
        """The mount point of a layer of its template, with this container's owners; 0 is the topmost layer."""
        return self.path / (f"lower-{number}" if number else "lower")

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    @property
    def log(self) -> Path:
        return self.path / "lxc.log"

    def snapshot(self, label: str) -> Path:
        return self.path / "snapshots" / f"{label}.img"


@dataclass(frozen=True)
class Record:
    """Record of a container; only its configuration has its variables.

    Attributes:
        template: folder of its template, which is not changed while a container uses it.
        made: ``create`` has finished.
    """

    name: str
    owner: str
    slot: int
    template: str
    created_at: datetime
    cpus: float
    memory_mb: int
    disk_mb: int
    processes: int
    made: bool = False

    @property
    def spec(self) -> ContainerSpec:
        return ContainerSpec(
            self.name, cpus=self.cpus, memory_mb=self.memory_mb, disk_mb=self.disk_mb, processes=self.processes
        )

    def finished(self) -> Record:
        return replace(self, made=True)

    def write(self, place: ContainerFolder) -> None:
        write_private(place.record, json.dumps({**asdict(self), "created_at": self.created_at.isoformat()}))


def read_record(place: ContainerFolder) -> Record | None:
    """Return the record in a folder; None if there is none, for example after an interrupted creation."""
    try:
        values: dict[str, Any] = json.loads(place.record.read_text(encoding="utf-8"))
        return Record(**{**values, "created_at": datetime.fromisoformat(values["created_at"])})
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner can read it at any time."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def places(root: Path) -> list[ContainerFolder]:
    """Return the folders of all containers of all owners."""
    folder = root / "containers"
    if not folder.is_dir():
        return []
    return [
        ContainerFolder(path) for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")
    ]


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file, which the kernel releases when this process ends.

    Raises:
        ProviderBusy: another process holds it; ``busy`` is the message.
        ProviderError: its folder is gone.
    """
    try:
        descriptor = file_locks.take(path, wait=False)
    except BlockingIOError:
        raise ProviderBusy(busy) from None
    except FileNotFoundError:
        raise _none(path.parent) from None
    try:
        # The previous holder may have removed the container.
        if os.fstat(descriptor).st_nlink == 0 or not path.exists():
            raise _none(path.parent)
        yield
    finally:
        file_locks.release(descriptor)


def _none(folder: Path) -> ProviderError:
    return ProviderError(f"There is no container '{folder.name}'.")


@contextmanager
def placing(root: Path) -> Iterator[None]:
    """Hold the lock for reserving names and slots; other processes hold it for milliseconds."""
    (root / "containers").mkdir(mode=PASS_THROUGH, parents=True, exist_ok=True)
    root.chmod(PASS_THROUGH)
    (root / "containers").chmod(PASS_THROUGH)
    with file_locks.held(root / "lock"):
        yield
