"""Provider of containers that exist only in this process's memory, for tests and demonstrations.

It fulfils the interface, but nothing runs in its containers, so their shards never report.
"""

from __future__ import annotations

import threading
from builtins import list as List  # noqa: N812  # the interface has a method of that name
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from itertools import count

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
from shards.providers.errors import ProviderError


@dataclass
class _Container:
    spec: ContainerSpec
    created_at: datetime
    environment: dict[str, str]
    state: ContainerState = ContainerState.STOPPED
    content: frozenset[str] = frozenset()
    snapshots: dict[str, frozenset[str]] = field(default_factory=dict)


class MemoryProvider(Provider):
    """Provider in memory that fails on demand: ``provider.fail_next("start", OutOfRoom("No memory."))``."""

    name = "memory"
    features = Features(snapshots=True, environment=True, images=True)

    def __init__(self) -> None:
        self._containers: dict[str, _Container] = {}
        self._failures: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self._numbers = count(100)
        self._lock = threading.RLock()

    def guards_link(self, address: IPv4Address | IPv6Address) -> bool:
        # Nothing leaves this process.
        return True

    # --- For tests --------------------------------------------------------------------------------------------

    def fail_next(self, method: str, error: Exception) -> None:
        """Let the next call of a method raise an error; several errors apply to as many calls."""
        self._failures[method].append(error)

    def environment_of(self, ref: str) -> dict[str, str]:
        """Return the variables of the first process."""
        return dict(self._known(ref).environment)

    def write(self, ref: str, mark: str) -> None:
        """Add a mark to the container's content, which snapshots include."""
        container = self._known(ref)
        container.content |= {mark}

    def holds(self, ref: str, mark: str) -> bool:
        return mark in self._known(ref).content

    def set_state(self, ref: str, state: ContainerState) -> None:
        """Set the state without a call of the interface."""
        self._known(ref).state = state

    def age(self, by: timedelta) -> None:
        """Make all containers older."""
        for container in self._containers.values():
            container.created_at -= by

    def forget(self, ref: str) -> None:
        """Lose a container, as if it had been removed elsewhere."""
        self._containers.pop(ref, None)

    # --- The interface ----------------------------------------------------------------------------------------

    def problems(self) -> List[str]:
        return []

    def create(self, spec: ContainerSpec, journal: Journal) -> str:
        with self._call("create"):
            if any(one.spec.name == spec.name for one in self._containers.values()):
                raise ProviderError(f"A container named '{spec.name}' exists already.")
            ref = f"{spec.name}.{next(self._numbers)}"
            journal.ref(ref)
            journal.step(f"create {ref}")
            container = _Container(spec, datetime.now(UTC), dict(spec.environment), snapshots={CLEAN: frozenset()})
            self._containers[ref] = container
            return ref

    def start(self, ref: str, journal: Journal) -> None:
        with self._call("start"):
            container = self._known(ref)
            journal.step(f"start {ref}")
            container.state = ContainerState.RUNNING

    def stop(self, ref: str, journal: Journal, timeout_s: float = 10) -> None:
        with self._call("stop"):
            container = self._known(ref)
            journal.step(f"stop {ref}")
            container.state = ContainerState.STOPPED

    def destroy(self, ref: str, journal: Journal) -> None:
        with self._call("destroy"):
            journal.step(f"remove {ref}")
            self._containers.pop(ref, None)

    def status(self, ref: str) -> ContainerStatus:
        with self._call("status"):
            container = self._containers.get(ref)
            if container is None:
                return ContainerStatus(ContainerState.GONE)
            spec = container.spec
            return ContainerStatus(container.state, memory_mb=spec.memory_mb, disk_mb=spec.disk_mb)

    def list(self) -> List[ManagedContainer]:
        with self._call("list"):
            items = sorted(self._containers.items())
            return [ManagedContainer(ref, one.spec.name, one.state, one.created_at) for ref, one in items]

    def snapshot(self, ref: str, label: str, journal: Journal) -> None:
        with self._call("snapshot"):
            container = self._known(ref)
            journal.step(f"snapshot {ref} as {label}")
            container.snapshots[label] = container.content

    def restore(self, ref: str, label: str, journal: Journal) -> None:
        with self._call("restore"):
            container = self._known(ref)
            if label not in container.snapshots:
                raise ProviderError(f"The container '{ref}' has no snapshot '{label}'.")
            journal.step(f"restore {ref} from {label}")
            container.content = container.snapshots[label]
            container.state = ContainerState.STOPPED

    def set_environment(self, ref: str, environment: Mapping[str, str]) -> None:
        with self._call("set_environment"):
            container = self._known(ref)
            if container.state is not ContainerState.STOPPED:
                raise ProviderError(f"The container '{ref}' runs; stop it first.")
            container.environment = dict(environment)

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        with self._lock:
            if self._failures[method]:
                raise self._failures[method].popleft()
            yield

    def _known(self, ref: str) -> _Container:
        try:
            return self._containers[ref]
        except KeyError:
            raise ProviderError(f"There is no container '{ref}'.") from None
