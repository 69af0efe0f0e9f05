"""Creation of a container in steps, so that no failure leaves an unknown container.

1. Choose a number and store it before calling Proxmox, so that a crash leaves a trace.
2. Create or clone. If another client took the number, try the next one. After a request without an answer, wait until
   the state of the number is known.
3. Set limits, network and firewall, and take the snapshot CLEAN. Then set the variables, which contain the enrolment
   token.
4. After a failure, remove the container if it is provably ours. Otherwise the error names what may be left.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from shards.providers.base import CLEAN, ContainerSpec, Journal
from shards.providers.errors import NotSupported, ProviderBusy, ProviderError, ProviderRefused, ProviderUnreachable
from shards.providers.proxmox import parameters
from shards.providers.proxmox.address_pin import AddressPin
from shards.providers.proxmox.client import Client
from shards.providers.proxmox.errors import OutcomeUnknown, VmidTaken
from shards.providers.proxmox.lookup import Lookup, Ownership
from shards.providers.proxmox.naming import Marker, Ref
from shards.providers.proxmox.settings import Settings
from shards.providers.proxmox.storage_lock import StorageLock
from shards.providers.proxmox.tasks import Tasks, pauses

_MAX_NUMBERS: Final = 10


class Creator:
    """Creator of containers, which removes those that it could not finish."""

    def __init__(self, client: Client, settings: Settings, lock: StorageLock) -> None:
        self._client = client
        self._settings = settings
        self._lock = lock
        self._lookup = Lookup(client, settings)
        self._tasks = Tasks(client, settings.task_timeout_s)
        self._pin = AddressPin(client)

    def create(self, spec: ContainerSpec, journal: Journal, *, environment: bool) -> Ref:
        """Create a stopped container with its snapshot CLEAN.

        Args:
            environment: set the variables of ``spec``, which needs a recent Proxmox.
        """
        source = self._source(spec)
        with self._lock(f"{self._settings.url} {self._settings.storage}", self._settings.task_timeout_s):
            if existing := self._lookup.named(spec.name):
                raise ProviderError(f"A container named '{spec.name}' exists already: {existing}.")
            ref = self._create_with_free_number(spec, source, journal)
        try:
            self._finish(ref, spec, source, journal, environment=environment)
        except ProviderError as error:
            raise self._with_cleanup(error, ref, journal) from error
        return ref

    def _source(self, spec: ContainerSpec) -> str:
        templates = self._settings.templates
        if spec.image not in templates:
            known = ", ".join(sorted(templates)) or "none"
            raise NotSupported(f"PROXMOX_TEMPLATES has no template '{spec.image[:60]}'; it has: {known}.")
        return templates[spec.image]

    def _create_with_free_number(self, spec: ContainerSpec, source: str, journal: Journal) -> Ref:
        tried: set[int] = set()
        while len(tried) < _MAX_NUMBERS:
            ref = Ref(self._settings.node, self._next_number(tried), secrets.token_hex(8))
            tried.add(ref.vmid)
            journal.ref(str(ref))
            try:
                self._create_or_clone(ref, spec, source, journal)
            except VmidTaken:
                journal.step(f"the number {ref.vmid} is taken; try the next one")
                continue
            return ref
        raise ProviderBusy(f"Other clients took every number that was tried: {', '.join(map(str, sorted(tried)))}.")

    def _next_number(self, tried: set[int]) -> int:
        answer = self._client.get("cluster", "nextid")
        if not str(answer).isdigit():
            raise ProviderError("Proxmox did not return a free number.")
        number = int(answer)
        # Proxmox may propose a number again that another client is about to use.
        while number in tried:
            number += 1
        return number

    def _create_or_clone(self, ref: Ref, spec: ContainerSpec, source: str, journal: Journal) -> None:
        marker = Marker(self._settings.owner, ref.vmid, ref.instance, spec.name, datetime.now(UTC))
        action = f"{'clone' if source.isdigit() else 'unpack'} template {spec.image} into {ref.vmid}"
        journal.step(action)
        try:
            upid = self._clone(marker, spec, source) if source.isdigit() else self._unpack(marker, spec, source)
        except OutcomeUnknown as error:
            self._await_outcome(ref, error, journal)
            return
        try:
            self._tasks.wait(upid, action, journal)
        except ProviderError as error:
            raise self._with_cleanup(error, ref, journal) from error

    def _unpack(self, marker: Marker, spec: ContainerSpec, source: str) -> str:
        request = parameters.create_parameters(self._settings, spec, marker, source)
        return self._client.task("POST", "nodes", self._settings.node, "lxc", **request)

    def _clone(self, marker: Marker, spec: ContainerSpec, source: str) -> str:
        template = self._client.record("nodes", self._settings.node, "lxc", source, "config")
        if dangers := parameters.template_dangers(template):
            raise ProviderRefused(f"The template {spec.image} ({source}) is not safe to clone: {', '.join(dangers)}.")
        full = self._settings.full_clones or not int(template.get("template") or 0)
        request = parameters.clone_parameters(self._settings, spec, marker, full=full)
        return self._client.task("POST", "nodes", self._settings.node, "lxc", source, "clone", **request)

    def _await_outcome(self, ref: Ref, error: OutcomeUnknown, journal: Journal) -> None:
        """Wait until the container of a request without an answer exists.

        Raises:
            VmidTaken: the number belongs to another container.
            ProviderUnreachable: nothing was created.
        """
        journal.step(f"no answer; wait for the state of {ref.vmid}")
        begun = time.monotonic()
        # A delayed request may still arrive for as long as the client waited for its answer.
        nothing_by, end = begun + self._settings.call_timeout_s, begun + self._settings.task_timeout_s
        for pause in pauses():
            ownership, locked = self._ownership(ref)
            if ownership is Ownership.OURS and not locked:
                return
            if ownership is Ownership.OTHERS:
                raise VmidTaken
            if ownership is Ownership.FREE and time.monotonic() >= nothing_by:
                raise ProviderUnreachable(f"{error} Nothing was created.") from error
            if time.monotonic() >= end:
                raise self._with_cleanup(error, ref, journal) from error
            time.sleep(pause)

    def _ownership(self, ref: Ref) -> tuple[Ownership | None, bool]:
        """Return the ownership (None while Proxmox is unreachable) and True for a locked container."""
        try:
            result = self._lookup.find(ref)
        except ProviderUnreachable:
            return None, False
        return result.ownership, bool(result.lock)

    def _finish(self, ref: Ref, spec: ContainerSpec, source: str, journal: Journal, *, environment: bool) -> None:
        here = ("nodes", ref.node, "lxc", ref.vmid)
        config = self._lookup.ours(ref).config
        if source.isdigit():
            journal.step(f"set the limits and the network of {ref.vmid}")
            self._client.put(*here, "config", **parameters.clone_changes(self._settings, spec, config))
            self._grow(ref, spec, config, journal)
        else:
            self._client.put(*here, "config", tags=parameters.tag(self._settings))
        if not parameters.limits_processes(config):
            journal.step(
                "warning: the template sets no lxc.cgroup2.pids.max, so the number of processes is not limited"
            )
        journal.step(f"set the firewall of {ref.vmid}")
        self._set_firewall(ref, here)
        journal.step(f"take the snapshot {CLEAN}")
        upid = self._client.task("POST", *here, "snapshot", snapname=parameters.snapshot_name(CLEAN))
        self._tasks.wait(upid, f"take the snapshot {CLEAN}", journal)
        if environment and spec.environment:
            own = parameters.read_env(config.get("env"))
            self._client.put(*here, "config", env=parameters.env_text({**own, **spec.environment}))

    def _grow(self, ref: Ref, spec: ContainerSpec, config: Mapping[str, Any], journal: Journal) -> None:
        present = parameters.disk_mb(config.get("rootfs"))
        if present is None or spec.disk_mb <= present:
            return
        journal.step(f"grow the disk to {spec.disk_mb} MB")
        here = ("nodes", ref.node, "lxc", ref.vmid)
        upid = self._client.task("PUT", *here, "resize", disk="rootfs", size=f"{spec.disk_mb}M")
        self._tasks.wait(upid, f"grow the disk of {ref.vmid}", journal)

    def _set_firewall(self, ref: Ref, here: tuple[str | int, ...]) -> None:
        """Replace all rules and address sets, because a clone has those of its template."""
        self._pin.reset(ref)
        old = self._client.rows(*here, "firewall", "rules")
        for position in sorted((int(rule["pos"]) for rule in old), reverse=True):
            self._client.delete(*here, "firewall", "rules", position)
        for rule in parameters.firewall_rules(self._settings):
            self._client.post(*here, "firewall", "rules", **rule)
        self._client.put(*here, "firewall", "options", **parameters.firewall_options(self._settings))

    def _with_cleanup(self, error: ProviderError, ref: Ref, journal: Journal) -> ProviderError:
        """Remove the unfinished container, and return the error with the result of the removal."""
        journal.step(f"creation failed; remove {ref.vmid}")
        try:
            result = self._clean_up(ref, journal)
        except ProviderError as second:
            result = f"It is not known if {ref} is removed: {second}"
        journal.step(result)
        return type(error)(f"{error} {result}", **error.data)

    def _clean_up(self, ref: Ref, journal: Journal) -> str:
        end = time.monotonic() + min(self._settings.call_timeout_s, self._settings.task_timeout_s)
        for pause in pauses():
            result = self._lookup.find(ref)
            if result.ownership is Ownership.FREE:
                return "Nothing is left of it."
            if result.ownership is Ownership.OTHERS:
                return f"The number {ref.vmid} now belongs to another container, which was not touched."
            if result.ownership is Ownership.OURS and not result.lock:
                self.destroy(ref, result.node, journal)
                return "Nothing is left of it."
            if time.monotonic() >= end:
                lock = f", locked ({result.lock})" if result.lock else ", outside the pool"
                return (
                    f"The container {ref.vmid} on {ref.node} is left{lock}. When no task uses it, run:"
                    f" pct unlock {ref.vmid} && pct destroy {ref.vmid}."
                )
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def destroy(self, ref: Ref, node: str, journal: Journal) -> None:
        """Remove a container that a lookup has just identified as ours, and wait until its number is free."""
        here = ("nodes", node, "lxc", ref.vmid)
        request = {"purge": 1, "force": 1, "destroy-unreferenced-disks": 1}
        try:
            self._tasks.wait(self._client.task("DELETE", *here, **request), f"destroy {ref.vmid}", journal)
        except OutcomeUnknown as error:
            self._await_removal(ref, error)

    def _await_removal(self, ref: Ref, error: OutcomeUnknown) -> None:
        end = time.monotonic() + self._settings.call_timeout_s
        for pause in pauses():
            if self._ownership(ref)[0] in (Ownership.FREE, Ownership.OTHERS):
                return
            if time.monotonic() >= end:
                raise error
            time.sleep(pause)
