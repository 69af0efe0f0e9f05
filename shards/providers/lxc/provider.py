"""Provider of unprivileged containers on this host, with the LXC tools."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from builtins import list as List  # noqa: N812  # the interface has a method of that name
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from myctobot.contract.names import is_slug
from myctobot.errors import InvalidRequest
from shards.providers.base import (
    CLEAN,
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    Features,
    Journal,
    ManagedContainer,
    Provider,
)
from shards.providers.errors import OutOfRoom, ProviderError
from shards.providers.lxc import network, storage, tools
from shards.providers.lxc.config import ControlGroups, check_spec, render, wrong_environment
from shards.providers.lxc.host import LxcHost, Slot, host_from_settings
from shards.providers.lxc.identity import identity
from shards.providers.lxc.records import (
    OWNER_ONLY,
    PASS_THROUGH,
    ContainerFolder,
    Record,
    locked,
    places,
    placing,
    read_record,
    write_private,
)
from shards.providers.own_addresses import is_own_address

# A name and a random suffix, so that a reused name gets another reference.
_REF = re.compile(r"[a-z0-9-]{1,40}\.[0-9a-f]{6}")
_STATES = {"RUNNING": ContainerState.RUNNING, "STOPPED": ContainerState.STOPPED}
_PROGRAMS = {
    "lxc-start": "lxc",
    "mkfs.ext4": "e2fsprogs",
    "nft": "nftables",
    "ip": "iproute2",
    "fsfreeze": "util-linux",
}


class LxcProvider(Provider):
    """Provider that creates a container in about a tenth of a second; see ``storage``."""

    name = "lxc"
    features = Features(snapshots=True, limits=True, isolated=True, environment=True, networked=True, images=True)

    def __init__(self, host: LxcHost | None = None) -> None:
        self.host = host or host_from_settings()

    def problems(self) -> List[str]:
        wrong = []
        if os.geteuid() != 0:
            wrong.append("Only root can create LXC containers; this process is not root.")
        path = "/usr/sbin:/usr/bin:/sbin:/bin"
        for program, package in _PROGRAMS.items():
            if shutil.which(program, path=path) is None:
                wrong.append(f"The program '{program}' is missing; install the package {package}.")
        if not wrong:
            wrong += network.problems(self.host)
        if not storage.templates(self.host.path):
            wrong.append(
                f"There is no template in {self.host.path}; build one with 'manage.py lxc template build NAME'."
            )
        return wrong

    def guards_link(self, address: IPv4Address | IPv6Address) -> bool:
        # The bridge may not exist yet.
        return address == self.host.address or is_own_address(address)

    def create(self, spec: ContainerSpec, journal: Journal) -> str:
        check_spec(spec)
        template = storage.template_folder(self.host.path, spec.image)
        storage.check_room(self.host.path, spec.disk_mb)
        with _translated(), ExitStack() as held:
            place, record = self._place(spec, template, journal, held)
            try:
                self._make(place, record, spec, journal)
            except BaseException:
                storage.remove(place)
                raise
            return place.ref

    def start(self, ref: str, journal: Journal) -> None:
        place, record = self._known(ref)
        with _translated(), _changing(place):
            if tools.state(place) == "RUNNING":
                return
            journal.step(f"mount {ref}")
            storage.mount(place, Path(record.template), self.host.slot(record.slot).first_id)
            journal.step(f"start {ref}")
            tools.start(place)

    def stop(self, ref: str, journal: Journal, timeout_s: float = 10) -> None:
        place, _ = self._known(ref)
        with _translated(), _changing(place):
            journal.step(f"stop {ref}")
            tools.stop(place, timeout_s)
            storage.unmount(place)

    def destroy(self, ref: str, journal: Journal) -> None:
        place = self._folder(ref)
        record = read_record(place)
        if record is not None and record.owner != self.host.owner:
            raise ProviderError(f"There is no container '{ref}'.")
        try:
            with _translated(), _changing(place):
                journal.step(f"remove {ref}")
                self._remove(place)
        except ProviderError:
            if place.path.exists():
                raise

    def status(self, ref: str) -> ContainerStatus:
        place = self._folder(ref)
        record = read_record(place)
        if record is None or record.owner != self.host.owner:
            return ContainerStatus(ContainerState.GONE)
        if not record.made:
            return ContainerStatus(ContainerState.OTHER, "its creation is in progress or was interrupted")
        state = tools.state(place)
        return ContainerStatus(
            _STATES.get(state, ContainerState.OTHER),
            detail="" if state in _STATES else state.lower(),
            address=str(self.host.slot(record.slot).address),
            memory_mb=record.memory_mb,
            disk_mb=record.disk_mb,
        )

    def list(self) -> List[ManagedContainer]:
        found = []
        for place in places(self.host.path):
            record = read_record(place)
            if record is not None and record.owner == self.host.owner:
                found.append(ManagedContainer(place.ref, record.name, self.status(place.ref).state, record.created_at))
        # A container may have been removed since its record was read.
        return [one for one in found if one.state is not ContainerState.GONE]

    def snapshot(self, ref: str, label: str, journal: Journal) -> None:
        place, _ = self._known(ref)
        _check_label(label)
        with _translated(), _changing(place):
            storage.check_room(self.host.path, storage.used_mb(place.image))
            journal.step(f"snapshot {ref} as {label}")
            with storage.still(place):
                storage.copy_image(place.image, place.snapshot(label))

    def restore(self, ref: str, label: str, journal: Journal) -> None:
        place, _ = self._known(ref)
        _check_label(label)
        if not place.snapshot(label).is_file():
            raise ProviderError(f"The container '{ref}' has no snapshot '{label}'.")
        with _translated(), _changing(place):
            journal.step(f"stop {ref}")
            tools.stop(place, 0)
            storage.unmount(place)
            journal.step(f"restore {ref} from {label}")
            storage.copy_image(place.snapshot(label), place.image)

    def set_environment(self, ref: str, environment: Mapping[str, str]) -> None:
        place, record = self._known(ref)
        if fields := wrong_environment(environment):
            raise InvalidRequest("The variables are not valid.", fields=fields)
        with _translated(), _changing(place):
            if tools.state(place) != "STOPPED":
                raise ProviderError(f"The container '{ref}' runs; stop it first.")
            self._write_config(place, record, environment)

    # --- Steps ------------------------------------------------------------------------------------------------

    def _place(
        self, spec: ContainerSpec, template: Path, journal: Journal, held: ExitStack
    ) -> tuple[ContainerFolder, Record]:
        """Reserve a slot and create the container's folder with its record; ``held`` receives its lock."""
        with placing(self.host.path):
            self._clear_leftovers(spec.name)
            place = ContainerFolder(self.host.path / "containers" / f"{spec.name}.{secrets.token_hex(3)}")
            record = Record(
                name=spec.name,
                owner=self.host.owner,
                slot=self._free_slot().number,
                template=str(template),
                created_at=datetime.now(UTC),
                cpus=spec.cpus,
                memory_mb=spec.memory_mb,
                disk_mb=spec.disk_mb,
                processes=spec.processes,
            )
            journal.ref(place.ref)
            place.path.mkdir()
            try:
                place.path.chmod(PASS_THROUGH)
                held.enter_context(_changing(place))
                record.write(place)
            except BaseException:
                storage.remove(place)
                raise
        return place, record

    def _clear_leftovers(self, name: str) -> None:
        """Remove leftovers of a killed ``create``.

        Raises:
            ProviderError: a container with this name exists.
        """
        storage.clear_removed(self.host.path)
        for place in places(self.host.path):
            if self._is_leftover(place, name):
                # A process that still creates it holds its lock.
                with _changing(place):
                    # That process may have finished before this one took the lock.
                    if self._is_leftover(place, name):
                        self._remove(place)

    def _is_leftover(self, place: ContainerFolder, name: str) -> bool:
        """Return whether a folder has no record, or has this name and an unfinished creation."""
        record = read_record(place)
        if record is None:
            return True
        if (record.name, record.owner) != (name, self.host.owner):
            return False
        if record.made:
            raise ProviderError(f"A container named '{name}' exists already: {place.ref}.")
        return True

    def _free_slot(self) -> Slot:
        taken = {record.slot for place in places(self.host.path) if (record := read_record(place))}
        free = next((slot for slot in self.host.slots if slot.number not in taken), None)
        if free is None:
            raise OutOfRoom(f"All {len(self.host.slots)} addresses of LXC_NETWORK ({self.host.network}) are taken.")
        return free

    def _make(self, place: ContainerFolder, record: Record, spec: ContainerSpec, journal: Journal) -> None:
        slot = self.host.slot(record.slot)
        journal.step(f"create a disk of {spec.disk_mb} MB for {place.ref}")
        storage.make_disk(place, spec.disk_mb, slot.first_id)
        for name, text, mode in identity(spec.name, self.host.authorized_keys, Path(record.template)):
            storage.add_file(place, name, text, slot.first_id, mode)
        storage.unmount(place)
        journal.step(f"snapshot {place.ref} as {CLEAN}")
        place.snapshot(CLEAN).parent.mkdir(mode=OWNER_ONLY)
        storage.copy_image(place.image, place.snapshot(CLEAN))
        self._write_config(place, record, spec.environment)
        record.finished().write(place)

    def _write_config(self, place: ContainerFolder, record: Record, environment: Mapping[str, str]) -> None:
        slot = self.host.slot(record.slot)
        text = render(self.host, slot, record.spec, str(place.rootfs), control_groups(), environment)
        write_private(place.config, text)

    def _remove(self, place: ContainerFolder) -> None:
        if place.config.exists():
            tools.stop(place, 0)
        storage.remove(place)

    # --- Finding ----------------------------------------------------------------------------------------------

    def _folder(self, ref: str) -> ContainerFolder:
        """Return the folder of a reference, which may not exist."""
        if not _REF.fullmatch(ref):
            raise ProviderError(f"'{ref[:60]}' is not a reference of a container.")
        return ContainerFolder(self.host.path / "containers" / ref)

    def _known(self, ref: str) -> tuple[ContainerFolder, Record]:
        place = self._folder(ref)
        record = read_record(place)
        if record is None or record.owner != self.host.owner:
            raise ProviderError(f"There is no container '{ref}'.")
        if not record.made:
            raise ProviderError(f"The creation of container '{ref}' was interrupted; destroy it.")
        return place, record


def control_groups() -> ControlGroups:
    """Detect the control groups of this host; a pure version 2 has one tree."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return ControlGroups(2, swap=any(root.glob("*/memory.swap.max")))
    return ControlGroups(1, swap=(root / "memory/memory.memsw.limit_in_bytes").exists())


def _changing(place: ContainerFolder) -> AbstractContextManager[None]:
    return locked(place.lock, f"The container '{place.ref}' is in use by another operation; try again soon.")


@contextmanager
def _translated() -> Iterator[None]:
    """Translate errors of the system into the provider's errors."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            # The error comes from the journal, not from the system.
            raise
        kind = OutOfRoom if error.errno in (errno.ENOSPC, errno.EDQUOT) else ProviderError
        raise kind(f"The host's file system failed: {error.strerror or error} ({error.filename}).") from error


def _check_label(label: str) -> None:
    if not is_slug(label):
        raise InvalidRequest("The label is not valid.", fields={"label": ["Use a lower-case slug."]})
