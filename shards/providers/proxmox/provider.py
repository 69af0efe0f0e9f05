"""Shards in LXC containers of Proxmox VE, through its API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from django.conf import settings as django_settings

from myctobot.errors import InvalidRequest
from shards.providers.base import (
    CLEAN,
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    Features,
    Found,
    Journal,
    Provider,
)
from shards.providers.errors import ProviderError, ProviderRefused
from shards.providers.proxmox import parameters
from shards.providers.proxmox.client import Client
from shards.providers.proxmox.creation import Maker
from shards.providers.proxmox.errors import NoSuchContainer, OutcomeUnknown, TaskFailed
from shards.providers.proxmox.lookup import Sight, Standing
from shards.providers.proxmox.naming import Ref
from shards.providers.proxmox.preflight import problems_of
from shards.providers.proxmox.settings import Settings, mistakes
from shards.providers.proxmox.storage_lock import Turn, database_turn
from shards.providers.proxmox.tasks import Tasks, pauses

# Proxmox is upgraded under a running control plane.
_VERSION_KEPT_S: Final = 300.0
_MB: Final = 1024 * 1024
_STATES: Final = {"running": ContainerState.RUNNING, "stopped": ContainerState.STOPPED}


class ProxmoxProvider(Provider):
    """Makes containers in one pool, on one node, storage and bridge of Proxmox.

    A reference is ``node/vmid/instance``: numbers are used again, so the number alone names nothing for good.

    Args:
        settings: instead of the setting ``PROXMOX``.
        turn: how creators of several processes take turns on a storage.
    """

    name: ClassVar[str] = "proxmox"

    def __init__(self, settings: Settings | None = None, turn: Turn = database_turn) -> None:
        self._settings = settings or Settings.of(django_settings.PROXMOX)
        self._client = Client(self._settings)
        self._sight = Sight(self._client, self._settings)
        self._tasks = Tasks(self._client, self._settings.task_timeout_s)
        self._maker = Maker(self._client, self._settings, turn)
        self._release: tuple[str, float] | None = None

    @property
    def features(self) -> Features:  # type: ignore[override]  # what Proxmox can do depends on its version
        return Features(
            snapshots=True, limits=True, isolated=True, environment=self.hands_variables, networked=True, images=True
        )

    @property
    def hands_variables(self) -> bool:
        """Whether this Proxmox (9.1 and later) hands variables to containers; false before it could be asked."""
        try:
            release = self.release()
        except ProviderError:
            release = self._release[0] if self._release else ""
        return parameters.has_environment(release)

    def release(self) -> str:
        """The version of Proxmox, such as ``9.1``."""
        if self._release is None or time.monotonic() - self._release[1] > _VERSION_KEPT_S:
            answer = self._client.record("version")
            self._release = (str(answer.get("release") or answer.get("version") or ""), time.monotonic())
        return self._release[0]

    def problems(self) -> list[str]:
        try:
            return mistakes(self._settings) or problems_of(self._client, self._settings)
        except ProviderError as error:
            return [str(error)]

    def create(self, spec: ContainerSpec, journal: Journal) -> str:
        self._ready()
        parameters.check_spec(spec)
        # Not the property: a Proxmox that cannot be asked is a reason to try again, not to leave the variables out.
        environment = parameters.has_environment(self.release())
        return str(self._maker.make(spec, journal, environment=environment))

    def start(self, ref: str, journal: Journal) -> None:
        found = self._found(ref)
        if self._state(found) is ContainerState.RUNNING:
            return
        journal.step(f"start {found.vmid}")
        self._turned(found, ContainerState.RUNNING, "start", journal)
        if self._state(found) is not ContainerState.RUNNING:
            raise TaskFailed(f"The container {ref} was started, and does not run: its first process ended at once.")
        if not self.hands_variables:
            self._await_address(found, journal)

    def stop(self, ref: str, journal: Journal, timeout_s: float = 10) -> None:
        try:
            found = self._found(ref)
        except NoSuchContainer:
            return
        if self._state(found) is ContainerState.STOPPED:
            return
        journal.step(f"shut {found.vmid} down")
        try:
            self._turned(found, ContainerState.STOPPED, "shutdown", journal, timeout=int(timeout_s), forceStop=1)
        except TaskFailed as error:
            journal.step(f"it did not shut down: {error}")
        if self._state(found) is not ContainerState.STOPPED:
            journal.step(f"stop {found.vmid} by force")
            self._turned(found, ContainerState.STOPPED, "stop", journal)
        if self._state(found) is not ContainerState.STOPPED:
            raise TaskFailed(f"The container {ref} was stopped, and still runs.")

    def destroy(self, ref: str, journal: Journal) -> None:
        self._ready()
        named = Ref.of(ref)
        seen = self._sight.look(named)
        if seen.standing is Standing.FREE:
            return
        if seen.standing is Standing.OTHERS:
            journal.step(f"{ref} is gone; the number {named.vmid} stands for another container, which is left alone")
            return
        journal.step(f"destroy {named.vmid}")
        self._maker.destroy(named, self._sight.ours(named).node, journal)

    def status(self, ref: str) -> ContainerStatus:
        self._ready()
        named = Ref.of(ref)
        seen = self._sight.look(named)
        if seen.standing is Standing.HIDDEN:
            detail = (
                f"the number {named.vmid} is in use outside the pool {self._settings.pool}, perhaps still being made"
            )
            return ContainerStatus(ContainerState.OTHER, detail)
        if seen.standing is not Standing.OURS:
            return ContainerStatus(ContainerState.GONE)
        try:
            return self._status(Ref(seen.node, named.vmid, named.instance))
        except (NoSuchContainer, ProviderRefused):
            # Destroyed between the two looks; what is not in the pool any more is forbidden.
            if self._sight.look(named).standing is Standing.OURS:
                raise
            return ContainerStatus(ContainerState.GONE)

    def list(self) -> list[Found]:
        self._ready()
        return [
            Found(
                str(ref), marker.name, _STATES.get(str(member.get("status")), ContainerState.OTHER), marker.created_at
            )
            for ref, marker, member in self._sight.all_ours()
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
        journal.step(f"go back to the snapshot {name}")
        self._tasks.wait(self._client.task("POST", *here, name, "rollback"), f"go back to {name}", journal)

    def set_environment(self, ref: str, environment: Mapping[str, str]) -> None:
        if not parameters.has_environment(self.release()):
            raise self._cannot("hand variables to a container before Proxmox 9.1")
        if wrong := parameters.wrong_variables(environment):
            raise InvalidRequest(fields={"environment": wrong})
        found = self._found(ref)
        if self._state(found) is not ContainerState.STOPPED:
            raise ProviderError(f"The container {ref} runs; stop it first.")
        here = ("nodes", found.node, "lxc", found.vmid, "config")
        # What the image itself says, as it was before we said anything.
        own = parameters.read_env(self._client.record(*here, snapshot=CLEAN).get("env"))
        wanted = {**own, **environment}
        if wanted:
            self._client.put(*here, env=parameters.env_text(wanted))
        elif self._client.record(*here).get("env"):
            self._client.put(*here, delete="env")

    def _await_address(self, ref: Ref, journal: Journal) -> None:
        """Wait until it can be reached: somebody is about to configure it, and DHCP takes its time."""
        journal.step(f"wait for an address of {ref.vmid}")
        if not _within(self._settings.call_timeout_s, lambda: self._status(ref).address is not None):
            journal.step("it has no address yet")

    def _ready(self) -> None:
        """Refuse to call anything with settings that are wrong by themselves."""
        if wrong := mistakes(self._settings):
            raise ProviderError(" ".join(wrong))

    def _found(self, ref: str) -> Ref:
        """Our container where it is now; raises what ``Sight.ours`` does."""
        self._ready()
        named = Ref.of(ref)
        return Ref(self._sight.ours(named).node, named.vmid, named.instance)

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

    def _turned(self, ref: Ref, wanted: ContainerState, verb: str, journal: Journal, **params: int) -> None:
        """Ask for another state and wait for the task; no answer is followed by looking at the state itself."""
        here = ("nodes", ref.node, "lxc", ref.vmid, "status", verb)
        try:
            self._tasks.wait(self._client.task("POST", *here, **params), f"{verb} {ref.vmid}", journal)
        except OutcomeUnknown as error:
            if not _within(self._settings.call_timeout_s, lambda: self._state(ref) is wanted):
                raise error
        except ProviderError:
            # Somebody else was faster: what is wanted is so.
            if self._state(ref) is not wanted:
                raise


def _within(seconds: float, is_so: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    for pause in pauses():
        try:
            if is_so():
                return True
        except OutcomeUnknown:
            pass
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
    return False


def _address(interfaces: list[dict[str, Any]]) -> str | None:
    """The first IPv4 address that is not the loopback's."""
    for interface in interfaces:
        address = str(interface.get("inet") or "").partition("/")[0]
        if address and interface.get("name") != "lo":
            return address
    return None


def _whole_mb(size: object) -> int | None:
    return int(size) // _MB if isinstance(size, int) else None
