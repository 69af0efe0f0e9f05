"""The folders of containers and what is written in each: whose it is, its slot, and whether it was made to the end.

<path>/lock                      held while a name and a slot are given
<path>/templates/<name>          a template, see ``template``
<path>/containers/<ref>/record.json, lock, config, disk.img, snapshots/<label>.img, lower/, disk/, rootfs/
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from shards.providers.base import ContainerSpec
from shards.providers.errors import ProviderBusy, ProviderError

# A container's root has to pass through to its file system, and may not look around.
PASS_THROUGH = 0o711
OWNER_ONLY = 0o700


@dataclass(frozen=True)
class Place:
    """The folder of one container."""

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
        """The file that is its disk."""
        return self.path / "disk.img"

    @property
    def disk(self) -> Path:
        """Where that disk is mounted."""
        return self.path / "disk"

    @property
    def lower(self) -> Path:
        """Where its template is mounted, with this container's owners."""
        return self.path / "lower"

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
    """What is known of a container beside its configuration, which alone holds its variables.

    Attributes:
        template: the folder of the template that it was made from, which stays as it was while it is used.
        made: whether ``create`` came to its end.
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

    def write(self, place: Place) -> None:
        write_private(place.record, json.dumps({**asdict(self), "created_at": self.created_at.isoformat()}))


def read_record(place: Place) -> Record | None:
    """What the folder says of itself; None when there is none, or it was killed before it said anything."""
    try:
        values: dict[str, Any] = json.loads(place.record.read_text(encoding="utf-8"))
        return Record(**{**values, "created_at": datetime.fromisoformat(values["created_at"])})
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole, readable by its owner alone from the first byte on."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def places(root: Path) -> list[Place]:
    """The folders of all containers, of whomever."""
    folder = root / "containers"
    if not folder.is_dir():
        return []
    return [Place(path) for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file; the kernel lets go of it however this process ends.

    Raises:
        ProviderBusy: somebody else holds it; ``busy`` is what the error says.
        ProviderError: its folder is gone.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        raise _none(path.parent) from None
    try:
        _take(descriptor, busy)
        # Whoever held it may have removed the container.
        if os.fstat(descriptor).st_nlink == 0 or not path.exists():
            raise _none(path.parent)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, busy: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ProviderBusy(busy) from None


def _none(folder: Path) -> ProviderError:
    return ProviderError(f"There is no container '{folder.name}'.")


@contextmanager
def placing(root: Path) -> Iterator[None]:
    """Be the only one who gives out names and slots; waits for the others, who take milliseconds."""
    (root / "containers").mkdir(mode=PASS_THROUGH, parents=True, exist_ok=True)
    root.chmod(PASS_THROUGH)
    (root / "containers").chmod(PASS_THROUGH)
    with (root / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
