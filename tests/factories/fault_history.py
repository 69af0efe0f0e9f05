"""History of a run with faults: observed facts about jobs, viewers, callbacks and slots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def digest(event: Mapping[str, Any]) -> str:
    """Return a short digest of an event, so that a history stays small."""
    text = json.dumps(event, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class AttemptFacts:
    """Row of an attempt; times are seconds of the database's clock."""

    number: int
    state: str
    shard: str = ""
    claimed_at: float | None = None
    ended_at: float | None = None
    outcome: str = ""
    error_code: str = ""


@dataclass(frozen=True)
class BatchFacts:
    """Row of a batch of events: the attempt that wrote it, its numbers and its time."""

    attempt: int
    first_seq: int
    last_seq: int
    at: float


@dataclass(frozen=True)
class ViewerFacts:
    """Events that a viewer saw as pairs of number and digest, and its end event as count and status."""

    name: str
    events: tuple[tuple[int, str], ...]
    end: tuple[int, str] | None


@dataclass(frozen=True)
class JobFacts:
    """Facts about one job.

    Attributes:
        key: its idempotency key.
        status: its status at the end of the run.
        statuses: statuses in the order of their observation, without repetitions in a row.
        events: number and digest of each stored event.
        callbacks: type and id of each received callback, in the order of arrival.
        head: commit that its result names.
        branches: commits that each of its branches has more than the base.
        heads: newest commit of each of its branches.
    """

    job_id: str
    key: str
    status: str
    statuses: tuple[str, ...] = ()
    error_code: str = ""
    error_message: str = ""
    cancel_requested: bool = False
    has_repository: bool = False
    has_callback: bool = False
    concurrency_key: str = ""
    max_attempts: int = 2
    attempts: tuple[AttemptFacts, ...] = ()
    batches: tuple[BatchFacts, ...] = ()
    events: tuple[tuple[int, str], ...] = ()
    viewers: tuple[ViewerFacts, ...] = ()
    callbacks: tuple[tuple[str, str], ...] = ()
    head: str | None = None
    branches: Mapping[str, int] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SlotSample:
    """Queue and slots at one moment.

    Attributes:
        at: seconds after the start of the run.
        ready: jobs that wait for nothing but a slot, with the number of the attempt that was sent, or 0.
        free: free slots of each shard in its own view: slots without a runner, if its worker can act.
    """

    at: float
    ready: Mapping[str, int]
    free: Mapping[str, int]


@dataclass(frozen=True)
class FaultFacts:
    """Injected fault, with the seconds from the start of the run; ``took_effect`` is False if it met no process."""

    part: str
    fault: str
    began: float
    ended: float
    took_effect: bool = True


@dataclass(frozen=True)
class RunHistory:
    """Facts about a whole run.

    Attributes:
        answers: the job ids that the API returned for each idempotency key.
        leftovers: what exists after all jobs ended and should not.
    """

    jobs: tuple[JobFacts, ...]
    answers: Mapping[str, frozenset[str]]
    samples: tuple[SlotSample, ...] = ()
    faults: tuple[FaultFacts, ...] = ()
    leftovers: tuple[str, ...] = ()
