"""Making a container, step by step, so that no failure leaves one that nobody knows of.

1. Choose a number and write it down before Proxmox is asked: from here on a crash leaves a trace.
2. Create or clone. A number that another took meanwhile is no failure, the next is tried. No answer is not taken for
   a no: it is waited for what becomes of the number.
3. Limits, network, firewall, and the snapshot CLEAN; only then the variables, which hold a token for enrolment.
4. When one of these fails, what was made is removed, if it is provably ours; else the error says what may be left.
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
from shards.providers.proxmox.client import Client
from shards.providers.proxmox.errors import OutcomeUnknown, VmidTaken
from shards.providers.proxmox.lookup import Sight, Standing
from shards.providers.proxmox.naming import Marker, Ref
from shards.providers.proxmox.settings import Settings
from shards.providers.proxmox.storage_lock import Turn
from shards.providers.proxmox.tasks import Tasks, pauses

_NUMBERS_TRIED: Final = 10


class Maker:
    """Makes containers, and removes what it could not finish."""

    def __init__(self, client: Client, settings: Settings, turn: Turn) -> None:
        self._client = client
        self._settings = settings
        self._turn = turn
        self._sight = Sight(client, settings)
        self._tasks = Tasks(client, settings.task_timeout_s)

    def make(self, spec: ContainerSpec, journal: Journal, *, environment: bool) -> Ref:
        """Make a stopped container with its snapshot CLEAN.

        Args:
            environment: whether Proxmox is new enough to hand it the variables of ``spec``.
        """
        source = self._source(spec)
        with self._turn(f"{self._settings.url} {self._settings.storage}", self._settings.task_timeout_s):
            if namesake := self._sight.named(spec.name):
                raise ProviderError(f"There is a container named '{spec.name}' already: {namesake}.")
            ref = self._numbered(spec, source, journal)
        try:
            self._finish(ref, spec, source, journal, environment=environment)
        except ProviderError as error:
            raise self._with_rest(error, ref, journal) from error
        return ref

    def _source(self, spec: ContainerSpec) -> str:
        templates = self._settings.templates
        if spec.image not in templates:
            known = ", ".join(sorted(templates)) or "none"
            raise NotSupported(f"PROXMOX_TEMPLATES has no template '{spec.image[:60]}'; it has: {known}.")
        return templates[spec.image]

    def _numbered(self, spec: ContainerSpec, source: str, journal: Journal) -> Ref:
        tried: set[int] = set()
        while len(tried) < _NUMBERS_TRIED:
            ref = Ref(self._settings.node, self._next_number(tried), secrets.token_hex(8))
            tried.add(ref.vmid)
            journal.ref(str(ref))
            try:
                self._begin(ref, spec, source, journal)
            except VmidTaken:
                journal.step(f"the number {ref.vmid} was taken by others; try the next")
                continue
            return ref
        raise ProviderBusy(f"Others took each of the numbers that were tried: {', '.join(map(str, sorted(tried)))}.")

    def _next_number(self, tried: set[int]) -> int:
        answer = self._client.get("cluster", "nextid")
        if not str(answer).isdigit():
            raise ProviderError("Proxmox did not say which number is free.")
        number = int(answer)
        # A number that others are about to use may be named again.
        while number in tried:
            number += 1
        return number

    def _begin(self, ref: Ref, spec: ContainerSpec, source: str, journal: Journal) -> None:
        marker = Marker(self._settings.owner, ref.vmid, ref.instance, spec.name, datetime.now(UTC))
        what = f"{'clone' if source.isdigit() else 'unpack'} template {spec.image} into {ref.vmid}"
        journal.step(what)
        try:
            upid = self._cloned(marker, spec, source) if source.isdigit() else self._created(marker, spec, source)
        except OutcomeUnknown as error:
            self._settle(ref, error, journal)
            return
        try:
            self._tasks.wait(upid, what, journal)
        except ProviderError as error:
            raise self._with_rest(error, ref, journal) from error

    def _created(self, marker: Marker, spec: ContainerSpec, source: str) -> str:
        asked = parameters.create_parameters(self._settings, spec, marker, source)
        return self._client.task("POST", "nodes", self._settings.node, "lxc", **asked)

    def _cloned(self, marker: Marker, spec: ContainerSpec, source: str) -> str:
        template = self._client.record("nodes", self._settings.node, "lxc", source, "config")
        if dangers := parameters.template_dangers(template):
            raise ProviderRefused(f"The template {spec.image} ({source}) is not safe to clone: {', '.join(dangers)}.")
        full = self._settings.full_clones or not int(template.get("template") or 0)
        asked = parameters.clone_parameters(self._settings, spec, marker, full=full)
        return self._client.task("POST", "nodes", self._settings.node, "lxc", source, "clone", **asked)

    def _settle(self, ref: Ref, error: OutcomeUnknown, journal: Journal) -> None:
        """Return when it turns out that the container was made; the request had no answer.

        Raises:
            VmidTaken: the number is somebody else's.
            ProviderUnreachable: nothing was made.
        """
        journal.step(f"no answer; look what becomes of {ref.vmid}")
        begun = time.monotonic()
        # A request that is still on its way may arrive for as long as its answer was waited for.
        nothing_by, end = begun + self._settings.call_timeout_s, begun + self._settings.task_timeout_s
        for pause in pauses():
            standing, locked = self._standing(ref)
            if standing is Standing.OURS and not locked:
                return
            if standing is Standing.OTHERS:
                raise VmidTaken
            if standing is Standing.FREE and time.monotonic() >= nothing_by:
                raise ProviderUnreachable(f"{error} Nothing was made.") from error
            if time.monotonic() >= end:
                raise self._with_rest(error, ref, journal) from error
            time.sleep(pause)

    def _standing(self, ref: Ref) -> tuple[Standing | None, bool]:
        """How it stands and whether it is locked; None while Proxmox is away."""
        try:
            seen = self._sight.look(ref)
        except ProviderUnreachable:
            return None, False
        return seen.standing, bool(seen.lock)

    def _finish(self, ref: Ref, spec: ContainerSpec, source: str, journal: Journal, *, environment: bool) -> None:
        here = ("nodes", ref.node, "lxc", ref.vmid)
        config = self._sight.ours(ref).config
        if source.isdigit():
            journal.step(f"give {ref.vmid} its limits and its network")
            self._client.put(*here, "config", **parameters.clone_changes(self._settings, spec, config))
            self._grow(ref, spec, config, journal)
        else:
            self._client.put(*here, "config", tags=parameters.tag(self._settings))
        if not parameters.limits_processes(config):
            journal.step("its processes are not limited from outside: the template sets no lxc.cgroup2.pids.max")
        journal.step(f"close the firewall around {ref.vmid}")
        self._close(here)
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
        journal.step(f"grow its disk to {spec.disk_mb} MB")
        here = ("nodes", ref.node, "lxc", ref.vmid)
        upid = self._client.task("PUT", *here, "resize", disk="rootfs", size=f"{spec.disk_mb}M")
        self._tasks.wait(upid, f"grow the disk of {ref.vmid}", journal)

    def _close(self, here: tuple[str | int, ...]) -> None:
        """Leave no rule but ours: a clone has its template's."""
        old = self._client.rows(*here, "firewall", "rules")
        for position in sorted((int(rule["pos"]) for rule in old), reverse=True):
            self._client.delete(*here, "firewall", "rules", position)
        for rule in parameters.firewall_rules(self._settings):
            self._client.post(*here, "firewall", "rules", **rule)
        self._client.put(*here, "firewall", "options", **parameters.firewall_options(self._settings))

    def _with_rest(self, error: ProviderError, ref: Ref, journal: Journal) -> ProviderError:
        """The same error with what is left of the container, after trying to leave nothing."""
        journal.step(f"it failed; remove what there is of {ref.vmid}")
        try:
            rest = self._remove_rest(ref, journal)
        except ProviderError as second:
            rest = f"Whether anything is left of {ref} is not known: {second}"
        journal.step(rest)
        return type(error)(f"{error} {rest}", **error.data)

    def _remove_rest(self, ref: Ref, journal: Journal) -> str:
        end = time.monotonic() + min(self._settings.call_timeout_s, self._settings.task_timeout_s)
        for pause in pauses():
            seen = self._sight.look(ref)
            if seen.standing is Standing.FREE:
                return "Nothing is left of it."
            if seen.standing is Standing.OTHERS:
                return f"The number {ref.vmid} stands for a container of others now, which was left alone."
            if seen.standing is Standing.OURS and not seen.lock:
                self.destroy(ref, seen.node, journal)
                return "Nothing is left of it."
            if time.monotonic() >= end:
                lock = f", locked ({seen.lock})" if seen.lock else ", outside the pool"
                return (
                    f"The container {ref.vmid} on {ref.node} is left{lock}; when nothing works on it any more:"
                    f" pct unlock {ref.vmid} && pct destroy {ref.vmid}."
                )
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def destroy(self, ref: Ref, node: str, journal: Journal) -> None:
        """Remove a container that was just seen to be ours; returns when its number is free."""
        here = ("nodes", node, "lxc", ref.vmid)
        what = f"destroy {ref.vmid}"
        asked = {"purge": 1, "force": 1, "destroy-unreferenced-disks": 1}
        try:
            self._tasks.wait(self._client.task("DELETE", *here, **asked), what, journal)
        except OutcomeUnknown as error:
            self._until_gone(ref, error)

    def _until_gone(self, ref: Ref, error: OutcomeUnknown) -> None:
        end = time.monotonic() + self._settings.call_timeout_s
        for pause in pauses():
            if self._standing(ref)[0] in (Standing.FREE, Standing.OTHERS):
                return
            if time.monotonic() >= end:
                raise error
            time.sleep(pause)
