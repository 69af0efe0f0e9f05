"""Requests and answers of a shard's worker, and the names of shard classes and queues."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NotRequired, TypedDict

from myctobot.contract.names import is_slug


class IsolationKind(StrEnum):
    """Isolation of every agent of a shard, which its worker decides at its start."""

    SANDBOX = "sandbox"
    NONE = "none"


class JobNetwork(StrEnum):
    """Network of each agent of a shard: its own, or the shard's, which its jobs share."""

    JOB = "job"
    SHARD = "shard"


class BrokerProblem(StrEnum):
    """Refusal of the broker because of which a shard takes no jobs."""

    LOGIN = "login_refused"
    QUEUES = "queues_refused"


class EnforcedLimits(TypedDict):
    """Means by which a shard limits its agents: ``control_group``, ``watchdog``, ``user`` or ``none``.

    The disk has ``image``, a bound for each job, or ``watchdog``, a minimum of free space that all jobs share.
    """

    memory: str
    processes: str
    disk: NotRequired[str]  # workers of earlier releases do not send it


class HeartbeatRequest(TypedDict):
    """State of a shard, sent every few seconds."""

    version: str
    capabilities: list[str]
    slots: int
    running: list[str]  # "job_id.attempt" of every live runner on the shard
    cpu_percent: float
    memory_mb: int
    memory_total_mb: int
    disk_free_mb: int
    versions: dict[str, str]
    isolation: NotRequired[str]  # an IsolationKind; workers of earlier releases do not send it
    sandbox_problem: NotRequired[str]  # reason why sandboxes fail now; absent while they work
    limits: NotRequired[EnforcedLimits]  # workers of earlier releases do not send it
    network: NotRequired[str]  # a JobNetwork; workers of earlier releases do not send it
    # Malformed messages by their DropReason, which the worker dropped since its start; absent if there were none.
    dropped_messages: NotRequired[dict[str, int]]
    # "job_id.attempt" of every runner that ended without a report; sent until a heartbeat is answered.
    ended: NotRequired[list[str]]
    # A BrokerProblem that has lasted for a minute; absent while there is none, and from workers of earlier releases.
    broker_problem: NotRequired[str]


class HeartbeatAnswer(TypedDict):
    """Queues that the shard consumes, and orders such as ``drain``."""

    shard: str
    queues: list[str]
    orders: list[str]


class EnrolRequest(TypedDict):
    """Request of a new shard for its configuration."""

    token: str  # valid once


class EnrolAnswer(TypedDict):
    """Configuration of a new shard."""

    config: dict[str, Any]  # content of config.json, with the shard's key and its broker user


def shard_class(capabilities: Iterable[str], pool: str | None = None) -> str:
    """Return the name of a shard class, such as ``filesystem+git@premium``.

    Raises:
        ValueError: there is no capability, or a name is not a slug.
    """
    names = sorted(set(capabilities))
    for name in [*names, *([pool] if pool is not None else [])]:
        if not is_slug(name):
            raise ValueError(f"{name!r} is not a lower-case slug (a-z, 0-9 and inner dashes, at most 40 characters)")
    if not names:
        raise ValueError("a shard needs at least one capability")
    return "+".join(names) + (f"@{pool}" if pool else "")


def class_queue(capabilities: Iterable[str], pool: str | None = None) -> str:
    """Return the name of the queue that every shard of a class consumes, such as ``cap.filesystem+git``."""
    return "cap." + shard_class(capabilities, pool)


def shard_queue(name: str) -> str:
    """Return the name of a shard's own queue."""
    return f"shard.{name}"
