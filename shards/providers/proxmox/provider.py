"""Provider of LXC containers of Proxmox VE, through its API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from django.conf import settings as django_settings

from myctobot.errors import InvalidRequest
from shards.providers.ansible import ssh_trust, unverified_problem
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
from shards.providers.errors import ProviderError, ProviderRefused
from shards.providers.proxmox import parameters
from shards.providers.proxmox.address_pin import AddressPin
from shards.providers.proxmox.client import Client
from shards.providers.proxmox.creation import Creator
from shards.providers.proxmox.errors import NoSuchContainer, OutcomeUnknown, TaskFailed
from shards.providers.proxmox.lookup import Lookup, Ownership
from shards.providers.proxmox.naming import Ref
from shards.providers.proxmox.preflight import problems_of
from shards.providers.proxmox.settings import Settings, mistakes
from shards.providers.proxmox.storage_lock import StorageLock, database_lock
from shards.providers.proxmox.tasks import Tasks, pauses

# Proxmox may be upgraded while the control plane runs.
_VERSION_KEPT_S: Final = 300.0
_MB: Final = 1024 * 1024
_STATES: Final = {"running": ContainerState.RUNNING, "stopped": ContainerState.STOPPED}


class ProxmoxProvider(Provider):
    """Provider of containers in one pool, on one node, storage and bridge of Proxmox.

    A reference is ``node/vmid/instance``, because Proxmox reuses numbers.

    Args:
        settings: replaces the setting ``PROXMOX``.
        lock: lock that serializes creations on a storage.
    """

    name: ClassVar[str] = "proxmox"

    def __init__(self, settings: Settings | None = None, lock: StorageLock = database_lock) -> None:
        self._settings = settings or Settings.of(django_settings.PROXMOX)
        self._client = Client(self._settings)
        self._lookup = Lookup(self._client, self._settings)
        self._tasks = Tasks(self._client, self._settings.task_timeout_s)
        self._pin = AddressPin(self._client)
        self._creator = Creator(self._client, self._settings, lock)
        self._release: tuple[str, float] | None = None

    @property
    def features(self) -> Features:  # type: ignore[override]  # what Proxmox can do depends on its version
        return Features(
            snapshots=True, limits=True, isolated=True, environment=self.passes_variables, networked=True, images=True
        )

    @property
    def passes_variables(self) -> bool:
        """Tell whether this Proxmox (9.1 and later) passes variables to containers; False while it is unreachable."""
        try:
            release = self.release()
        except ProviderError:
            release = self._release[0] if self._release else ""
        return parameters.has_environment(release)

    def release(self) -> str:
        """Return the version of Proxmox, such as ``9.1``."""
        if self._release is None or time.monotonic() - self._release[1] > _VERSION_KEPT_S:
            answer = self._client.record("version")
            self._release = (str(answer.get("release") or answer.get("version") or ""), time.monotonic())
        return self._release[0]

    def problems(self) -> list[str]:
        try:
            return mistakes(self._settings) or [*problems_of(self._client, self._settings), *self._ssh_problems()]
        except ProviderError as error:
            return [str(error)]

    def _ssh_problems(self) -> list[str]:
        problem = None if self.passes_variables else unverified_problem(*ssh_trust())
        return [problem] if problem else []

    def create(self, spec: ContainerSpec, journal: Journal) -> str:
        self._require_valid_settings()
        parameters.check_spec(spec)
        # Do not use the property here: if Proxmox is unreachable, fail instead of omitting the variables.
        environment = parameters.has_environment(self.release())
        return str(self._creator.create(spec, journal, environment=environment))

    def start(self, ref: str, journal: Journal) -> None:
        found = self._found(ref)
        if self._state(found) is ContainerState.RUNNING:
            return
        journal.step(f"start {found.vmid}")
        self._change_state(found, ContainerState.RUNNING, "start", journal)
        if self._state(found) is not ContainerState.RUNNING:
            raise TaskFailed(f"The container {ref} was started, but its first process ended at once.")
        journal.step(f"wait for an address of {found.vmid}")
        self._pin.pin(found, lambda: self._awaited_address(found), journal)

    def stop(self, ref: str, journal: Journal, timeout_s: float = 10) -> None:
        try:
            found = self._found(ref)
        except NoSuchContainer:
            return
        if self._state(found) is ContainerState.STOPPED:
            return
        journal.step(f"shut down {found.vmid}")
        try:
            self._change_state(found, ContainerState.STOPPED, "shutdown", journal, timeout=int(timeout_s), forceStop=1)
        except TaskFailed as error:
            journal.step(f"it did not shut down: {error}")
        if self._state(found) is not ContainerState.STOPPED:
            journal.step(f"stop {found.vmid} by force")
            self._change_state(found, ContainerState.STOPPED, "stop", journal)
        if self._state(found) is not ContainerState.STOPPED:
            raise TaskFailed(f"The container {ref} still runs after a forced stop.")

    def destroy(self, ref: str, journal: Journal) -> None:
        self._require_valid_settings()
        named = Ref.of(ref)
        result = self._lookup.find(named)
        if result.ownership is Ownership.FREE:
            return
        if result.ownership is Ownership.OTHERS:
            journal.step(f"{ref} is gone; the number {named.vmid} belongs to another container, which is not touched")
            return
        journal.step(f"destroy {named.vmid}")
        self._creator.destroy(named, self._lookup.ours(named).node, journal)

    def status(self, ref: str) -> ContainerStatus:
        self._require_valid_settings()
        named = Ref.of(ref)
        result = self._lookup.find(named)
        if result.ownership is Ownership.HIDDEN:
            detail = f"the number {named.vmid} is in use outside the pool {self._settings.pool}, maybe by a creation"
            return ContainerStatus(ContainerState.OTHER, detail)
        if result.ownership is not Ownership.OURS:
            return ContainerStatus(ContainerState.GONE)
        try:
            return self._status(Ref(result.node, named.vmid, named.instance))
        except (NoSuchContainer, ProviderRefused):
            # It was destroyed between the two calls; a container that left the pool is forbidden.
            if self._lookup.find(named).ownership is Ownership.OURS:
                raise
            return ContainerStatus(ContainerState.GONE)

    def list(self) -> list[ManagedContainer]:
        self._require_valid_settings()
        return [
            ManagedContainer(
                str(ref), marker.name, _STATES.get(str(member.get("status")), ContainerState.OTHER), marker.created_at
            )
            for ref, marker, member in self._lookup.all_ours()
        ]

    def snapshot(self, ref: str, label: str, journal: Journal) -> None:
        name = parameters.snapshot_name(label)
        found = self._found(ref)
        here = ("nodes", found.node, "lxc", found.vmid, "snapshot")
        if any(row.get("name") == name for row in self._client.rows(*here)):
            journal.step(f"remove the older snapshot {name}")
            self._tasks.wait(self._client.task("DELETE", *here, name), f"remove the snapshot {name}", journal)
        journal.step(f"take the snapshot {name}")
        self._tasks.wait(self._client.task("POST", *here, snapname=name), f"take the snapshot {name}", journal)

    def restore(self, ref: str, label: str, journal: Journal) -> None:
        name = parameters.snapshot_name(label)
        found = self._found(ref)
        here = ("nodes", found.node, "lxc", found.vmid, "snapshot")
        if not any(row.get("name") == name for row in self._client.rows(*here)):
            raise ProviderError(f"The container {ref} has no snapshot '{label}'.")
        self.stop(ref, journal)
        journal.step(f"restore the snapshot {name}")
        self._tasks.wait(self._client.task("POST", *here, name, "rollback"), f"restore {name}", journal)
        if label == CLEAN:
            # The container is as its template made it, so its next address can be believed.
            self._pin.reset(found)

    def set_environment(self, ref: str, environment: Mapping[str, str]) -> None:
        if not parameters.has_environment(self.release()):
            raise self._cannot("pass variables to a container before Proxmox 9.1")
        if wrong := parameters.wrong_variables(environment):
            raise InvalidRequest(fields={"environment": wrong})
        found = self._found(ref)
        if self._state(found) is not ContainerState.STOPPED:
            raise ProviderError(f"The container {ref} runs; stop it first.")
        here = ("nodes", found.node, "lxc", found.vmid, "config")
        # Variables of the image, as they were before MyCTOBot added its own.
        own = parameters.read_env(self._client.record(*here, snapshot=CLEAN).get("env"))
        wanted = {**own, **environment}
        if wanted:
            self._client.put(*here, env=parameters.env_text(wanted))
        elif self._client.record(*here).get("env"):
            self._client.put(*here, delete="env")

    def _awaited_address(self, ref: Ref) -> str | None:
        """Wait for the container's address, because DHCP takes time; return None if it gets none in time."""
        address: str | None = None

        def has_address() -> bool:
            nonlocal address
            address = self._status(ref).address
            return address is not None

        _within(self._settings.call_timeout_s, has_address)
        return address

    def _require_valid_settings(self) -> None:
        """Raise ``ProviderError`` if the settings are not valid."""
        if wrong := mistakes(self._settings):
            raise ProviderError(" ".join(wrong))

    def _found(self, ref: str) -> Ref:
        """Return the reference with the container's present node. Raises the errors of ``Lookup.ours``."""
        self._require_valid_settings()
        named = Ref.of(ref)
        return Ref(self._lookup.ours(named).node, named.vmid, named.instance)

    def _state(self, ref: Ref) -> ContainerState:
        current = self._client.record("nodes", ref.node, "lxc", ref.vmid, "status", "current")
        return _STATES.get(str(current.get("status")), ContainerState.OTHER)

    def _status(self, ref: Ref) -> ContainerStatus:
        here = ("nodes", ref.node, "lxc", ref.vmid)
        current = self._client.record(*here, "status", "current")
        state = _STATES.get(str(current.get("status")), ContainerState.OTHER)
        lock = str(current.get("lock") or "")
        return ContainerStatus(
            state,
            f"locked: {lock}" if lock else "",
            _address(self._client.rows(*here, "interfaces")) if state is ContainerState.RUNNING else None,
            _whole_mb(current.get("maxmem")),
            _whole_mb(current.get("maxdisk")),
        )

    def _change_state(self, ref: Ref, wanted: ContainerState, verb: str, journal: Journal, **params: int) -> None:
        """Request a state and wait for the task; if the outcome is unknown, check the state itself."""
        here = ("nodes", ref.node, "lxc", ref.vmid, "status", verb)
        try:
            self._tasks.wait(self._client.task("POST", *here, **params), f"{verb} {ref.vmid}", journal)
        except OutcomeUnknown as error:
            if not _within(self._settings.call_timeout_s, lambda: self._state(ref) is wanted):
                raise error
        except ProviderError:
            # Another client may have set the state first.
            if self._state(ref) is not wanted:
                raise


def _within(seconds: float, is_met: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    for pause in pauses():
        try:
            if is_met():
                return True
        except OutcomeUnknown:
            pass
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
    return False


def _address(interfaces: list[dict[str, Any]]) -> str | None:
    """Return the first IPv4 address that is not the loopback's."""
    for interface in interfaces:
        address = str(interface.get("inet") or "").partition("/")[0]
        if address and interface.get("name") != "lo":
            return address
    return None


def _whole_mb(size: object) -> int | None:
    return int(size) // _MB if isinstance(size, int) else None
