"""Interface of container providers.

A provider creates, operates and removes the containers of shards. It does not know jobs, tenants or the database. Its
caller (``shards.operations``) stores each step, so that a crash leaves no orphan. All calls block; slow calls report
their progress through ``Journal``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Protocol

from shards.providers.errors import NotSupported


class ContainerState(StrEnum):
    """State of a container at its provider."""

    RUNNING = "running"
    STOPPED = "stopped"
    # The container exists and is between states or damaged; see ``ContainerStatus.detail``.
    OTHER = "other"
    # The provider has no container with this reference.
    GONE = "gone"


@dataclass(frozen=True)
class Features:
    """Features of a provider beyond create, start, stop, destroy, status and list.

    Attributes:
        snapshots: takes and restores snapshots.
        limits: enforces limits of memory, CPUs, processes and disk from outside the container.
        isolated: processes inside cannot affect the host; otherwise only trusted jobs may run.
        environment: passes variables to the container's first process, so that it can enrol by itself.
        networked: a new container is reachable by SSH, so that Ansible can configure it.
        images: creates containers from a template image.
    """

    snapshots: bool = False
    limits: bool = False
    isolated: bool = False
    environment: bool = False
    networked: bool = False
    images: bool = False


@dataclass(frozen=True)
class ContainerSpec:
    """Specification of a new container.

    Args:
        name: name of the shard, a lower-case slug; becomes the host name.
        image: name of the template at the provider; empty if it needs none.
        cpus: CPU time in processors; 0.5 is half a processor.
        memory_mb: memory, without swap.
        disk_mb: size of the root file system.
        processes: maximum number of processes and threads.
        environment: variables of its first process. They contain the enrolment token, so ``repr`` hides them.
    """

    name: str
    image: str = ""
    cpus: float = 1
    memory_mb: int = 512
    disk_mb: int = 8192
    processes: int = 1024
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ContainerStatus:
    """Status of one container.

    Attributes:
        detail: text for operators, such as a lock or the reason of ``OTHER``; may be empty.
        address: its IP address, if known.
    """

    state: ContainerState
    detail: str = ""
    address: str | None = None
    memory_mb: int | None = None
    disk_mb: int | None = None


@dataclass(frozen=True)
class ManagedContainer:
    """Container at a provider that this control plane created, for the reconciler."""

    ref: str
    name: str
    state: ContainerState
    created_at: datetime | None = None


class Journal(Protocol):
    """Journal that stores a provider's steps immediately."""

    def step(self, text: str) -> None:
        """Record a step that starts now, e.g. ``clone template general into 104``."""

    def ref(self, ref: str) -> None:
        """Record the reference of the new container. Called *before* the provider is asked to create it."""


class NullJournal:
    """Journal that discards everything."""

    def step(self, text: str) -> None:
        pass

    def ref(self, ref: str) -> None:
        pass


class Provider(ABC):
    """Provider of containers.

    A reference (``ref``) identifies one container and is never reused. Every method raises ``ProviderError`` with the
    provider's message on a failure; the error tells whether to try again.
    """

    name: ClassVar[str]
    features: ClassVar[Features]

    @abstractmethod
    def problems(self) -> list[str]:
        """Return configuration problems as sentences with their remedy; empty if there are none.

        Called when the stack starts and on request of an operator; never raises.
        """

    @abstractmethod
    def create(self, spec: ContainerSpec, journal: Journal) -> str:
        """Create a stopped container and return its reference; after a failure, the error names what is left.

        If ``features.snapshots`` is true, the container has a snapshot ``CLEAN`` that was taken before its first start.
        """

    @abstractmethod
    def start(self, ref: str, journal: Journal) -> None:
        """Start a container and wait until it runs; does nothing if it runs already."""

    @abstractmethod
    def stop(self, ref: str, journal: Journal, timeout_s: float = 10) -> None:
        """Stop a container, by force after ``timeout_s``, and wait for its end; does nothing if it is stopped."""

    @abstractmethod
    def destroy(self, ref: str, journal: Journal) -> None:
        """Remove a container with its snapshots, even while it runs; does nothing if it is gone."""

    @abstractmethod
    def status(self, ref: str) -> ContainerStatus:
        """Return the present status; ``GONE`` is a status, not an error."""

    @abstractmethod
    def list(self) -> list[ManagedContainer]:
        """Return all containers that this control plane created with this provider."""

    def snapshot(self, ref: str, label: str, journal: Journal) -> None:
        """Take a snapshot under ``label``, a slug, replacing an older one; may stop the container for a moment."""
        raise self._cannot("take snapshots")

    def restore(self, ref: str, label: str, journal: Journal) -> None:
        """Restore a snapshot; afterwards the container is stopped."""
        raise self._cannot("restore snapshots")

    def set_environment(self, ref: str, environment: Mapping[str, str]) -> None:
        """Replace the variables that MyCTOBot passed to a stopped container, for its next start."""
        raise self._cannot("pass variables to a container")

    def guards_link(self, address: IPv4Address | IPv6Address) -> bool:
        """Tell whether traffic between a container and this address cannot be read on its way, even without TLS."""
        return False

    def _cannot(self, action: str) -> NotSupported:
        return NotSupported(f"The provider {self.name} cannot {action}.")


# Label of the snapshot that ``create`` takes before the first start; it contains no key.
CLEAN = "clean"
