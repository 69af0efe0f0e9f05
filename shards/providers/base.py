"""What every provider of containers can do, in one small interface.

A provider makes, keeps and removes the containers that shards live in. It knows nothing of jobs, of tenants or of the
database: who calls it (``shards.provisioning``) writes down each step before and after, so that a crash between two
of them leaves no orphan. All calls block; the slow ones say what they are at through ``Journal``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Protocol

from shards.providers.errors import NotSupported


class ContainerState(StrEnum):
    """How a container stands, as its provider sees it."""

    RUNNING = "running"
    STOPPED = "stopped"
    # Known to the provider, and between states or damaged; ``ContainerStatus.detail`` says more.
    OTHER = "other"
    # The provider has none of that reference.
    GONE = "gone"


@dataclass(frozen=True)
class Features:
    """What a provider can do beyond create, start, stop, destroy, status and list.

    Attributes:
        snapshots: takes snapshots and goes back to them.
        limits: enforces memory, CPUs, processes and disk from outside.
        isolated: what runs inside cannot touch the host; else only trusted jobs may run there.
        environment: hands variables to the container's first process, so that it can enrol by itself.
        networked: a new container is reached by SSH, so that Ansible can configure it.
        images: makes containers from a template image.
    """

    snapshots: bool = False
    limits: bool = False
    isolated: bool = False
    environment: bool = False
    networked: bool = False
    images: bool = False


@dataclass(frozen=True)
class ContainerSpec:
    """What a container shall be.

    Args:
        name: the shard's, a lower-case slug; becomes the host name.
        image: a template's name as the provider knows it; empty where it needs none.
        cpus: processors' worth of time; 0.5 is half of one.
        memory_mb: memory, without swap.
        disk_mb: of its root file system.
        processes: processes and threads at once.
        environment: variables of its first process. They hold the enrolment token, so ``repr`` hides them.
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
    """How one container is.

    Attributes:
        detail: for people, such as a lock or the reason of ``OTHER``; may be empty.
        address: the IP address inside, when it is known.
    """

    state: ContainerState
    detail: str = ""
    address: str | None = None
    memory_mb: int | None = None
    disk_mb: int | None = None


@dataclass(frozen=True)
class Found:
    """A container that a provider has and that was made by this control plane, for the reconciler."""

    ref: str
    name: str
    state: ContainerState
    created_at: datetime | None = None


class Journal(Protocol):
    """Takes down what a provider is doing, at once and for good."""

    def step(self, text: str) -> None:
        """Say what begins now, e.g. ``clone template general into 104``."""

    def ref(self, ref: str) -> None:
        """Say under which reference the container will exist. Called *before* the provider is asked to make it."""


class Silent:
    """A journal for callers that need none."""

    def step(self, text: str) -> None:
        pass

    def ref(self, ref: str) -> None:
        pass


class Provider(ABC):
    """Makes, keeps and removes containers.

    A reference (``ref``) names one container for good. Every method raises ``ProviderError`` when it cannot do what it
    says, with the provider's own words; whether to try again is on the error.
    """

    name: ClassVar[str]
    features: ClassVar[Features]

    @abstractmethod
    def problems(self) -> list[str]:
        """What keeps it from working here, in sentences that say what to do; empty when all is well.

        Looked at when the stack starts and when an operator asks; never raises.
        """

    @abstractmethod
    def create(self, spec: ContainerSpec, journal: Journal) -> str:
        """Make a stopped container and return its reference; on failure nothing is left but what the error names.

        Where ``features.snapshots`` is true it has a snapshot ``CLEAN`` in the end, taken before it ever ran.
        """

    @abstractmethod
    def start(self, ref: str, journal: Journal) -> None:
        """Start it, and wait until it runs; harmless when it does."""

    @abstractmethod
    def stop(self, ref: str, journal: Journal, timeout_s: float = 10) -> None:
        """Ask it to stop, and end it by force after ``timeout_s``; returns once nothing of it runs. Harmless twice."""

    @abstractmethod
    def destroy(self, ref: str, journal: Journal) -> None:
        """Remove it with all that belongs to it, snapshots too, running or not. Harmless when it is gone."""

    @abstractmethod
    def status(self, ref: str) -> ContainerStatus:
        """How it is now; ``GONE`` is an answer, not an error."""

    @abstractmethod
    def list(self) -> list[Found]:
        """All containers that this control plane made with it, never those of others."""

    def snapshot(self, ref: str, label: str, journal: Journal) -> None:
        """Keep its present state under ``label``, a slug, in place of an older one; may stop it for a moment."""
        raise self._cannot("take snapshots")

    def restore(self, ref: str, label: str, journal: Journal) -> None:
        """Go back to a snapshot; afterwards it is stopped."""
        raise self._cannot("restore snapshots")

    def set_environment(self, ref: str, environment: Mapping[str, str]) -> None:
        """Give a stopped container other variables for its next start, instead of all that it had from us."""
        raise self._cannot("hand variables to a container")

    def _cannot(self, what: str) -> NotSupported:
        return NotSupported(f"The provider {self.name} cannot {what}.")


# The snapshot that ``create`` takes: nothing ever ran on it, and it holds no key.
CLEAN = "clean"
