"""Judge of a run with faults: each rule returns the violations that it finds in a history; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from myctobot.contract.jobs import TERMINAL
from tests.factories.fault_history import FaultFacts, JobFacts, RunHistory, SlotSample

MAX_IDLE_S: Final = 60.0
# Samples come every second. A longer gap is time in which nothing was observed.
MAX_GAP_S: Final = 5.0
# These parts carry a job from the queue to a runner.
_WAY_TO_A_SLOT: Final = frozenset({"web", "control", "beat", "redis", "postgres", "shard-local", "shard-local-2"})
# Failures that the faults of a run cause, for a job that has used its attempts or has no further one.
_CODES_OF_FAULTS: Final = frozenset(
    (
        "lost",
        "interrupted",
        "runner_error",
        "disk_full",
        "disk_limit",
        "model_unavailable",
        "push_unconfirmed",
        "unclaimed",
    )
)


@dataclass(frozen=True)
class Violation:
    """Broken rule; ``job_id`` is empty for a rule about the whole run."""

    rule: str
    job_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.job_id or 'the run'}: {self.text}"


def judge(history: RunHistory) -> list[Violation]:
    """Return every violation of every rule."""
    found = [
        Violation(rule.__name__, job.job_id, text) for job in history.jobs for rule in JOB_RULES for text in rule(job)
    ]
    for rule in RUN_RULES:
        found += [Violation(rule.__name__, job_id, text) for job_id, text in rule(history)]
    return found


def one_terminal_state(job: JobFacts) -> Iterator[str]:
    """Find a job without a terminal status, with two, or with another status after it."""
    reports = [job.status, *(viewer.end[1] for viewer in job.viewers if viewer.end)]
    reports += [kind.removeprefix("job.") for kind, _ in job.callbacks if kind != "job.started"]
    terminal = {status for status in (*job.statuses, *reports) if status in TERMINAL}
    if job.status not in TERMINAL:
        yield f"it is {job.status} at the end"
    if len(terminal) > 1:
        yield f"it was reported as {sorted(terminal)}"
    first = next((at for at, status in enumerate(job.statuses) if status in TERMINAL), len(job.statuses))
    if later := job.statuses[first + 1 :]:
        yield f"it became {', '.join(later)} after {job.statuses[first]}"


def one_accepted_writer(job: JobFacts) -> Iterator[str]:
    """Find attempts that were accepted at the same time, or events of an attempt that was not the current one."""
    numbers = [attempt.number for attempt in job.attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"the attempts have the numbers {numbers}"
    if live := [attempt.number for attempt in job.attempts if attempt.state not in {"ended", "lost", "withdrawn"}]:
        yield f"the attempts {live} have not ended"
    claimed = [attempt for attempt in job.attempts if attempt.claimed_at is not None]
    for before, after in pairwise(claimed):
        if before.ended_at is None or (after.claimed_at or 0.0) < before.ended_at:
            yield f"attempt {after.number} was claimed before attempt {before.number} ended"
    completed = [attempt.number for attempt in job.attempts if attempt.outcome == "completed"]
    if completed != numbers[-1:] and (job.status == "completed" or completed):
        yield f"the job is {job.status}, and the attempts {completed} of {len(numbers)} completed"
    yield from _foreign_batches(job)


def _foreign_batches(job: JobFacts) -> Iterator[str]:
    """Find batches that were accepted outside the life of their attempt."""
    attempts = {attempt.number: attempt for attempt in job.attempts}
    for batch in job.batches:
        writer = attempts.get(batch.attempt)
        if writer is None or writer.claimed_at is None:
            yield f"attempt {batch.attempt} wrote the events {batch.first_seq} to {batch.last_seq} without a claim"
        elif not writer.claimed_at <= batch.at <= (writer.ended_at or batch.at):
            yield f"attempt {batch.attempt} wrote the events {batch.first_seq} to {batch.last_seq} outside its life"
    order = [batch.attempt for batch in sorted(job.batches, key=lambda one: one.first_seq)]
    if order != sorted(order):
        yield f"the attempts wrote the events in the order {order}"


def one_stream(job: JobFacts) -> Iterator[str]:
    """Find events without the numbers 1 to N, and viewers that saw others."""
    numbers = [number for number, _ in job.events]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"the stored events have the numbers {numbers}"
    ranges = sorted((batch.first_seq, batch.last_seq) for batch in job.batches)
    stored = [number for first, last in ranges for number in range(first, last + 1)]
    if job.batches and stored != numbers:
        yield f"the batches have the events {ranges}, and readers get {len(numbers)}"
    for viewer in job.viewers:
        if viewer.events != job.events:
            seen = [number for number, _ in viewer.events]
            same = seen == numbers
            yield f"{viewer.name} saw {'other contents' if same else seen} of {len(numbers)} events"
        if viewer.end != (len(numbers), job.status):
            yield f"{viewer.name} saw the end {viewer.end} of {len(numbers)} events"


def one_branch_and_one_callback(job: JobFacts) -> Iterator[str]:
    """Find a job whose effects exist twice, or not at all."""
    if len(job.branches) > 1 or any(commits > 1 for commits in job.branches.values()):
        yield f"its branches and their commits are {dict(job.branches)}"
    if job.status == "completed" and job.has_repository:
        if list(job.branches.values()) != [1]:
            yield f"it completed, and its branches and their commits are {dict(job.branches)}"
        elif job.head not in job.heads.values():
            yield f"its result names {job.head}, and its branch has {dict(job.heads)}"
    expected = set()
    if job.has_callback:
        expected = {f"job.{job.status}"} | ({"job.started"} if any(one.claimed_at for one in job.attempts) else set())
    ids: dict[str, set[str]] = {}
    for kind, callback_id in job.callbacks:
        ids.setdefault(kind, set()).add(callback_id)
    if ids.keys() != expected:
        yield f"it sent the callbacks {sorted(ids)} instead of {sorted(expected)}"
    for kind, found in ids.items():
        if len(found) > 1:
            yield f"{kind} has the ids {sorted(found)}"


def an_explained_end(job: JobFacts) -> Iterator[str]:
    """Find a job that ended otherwise than its request and the faults explain."""
    if job.status == "cancelled" and not job.cancel_requested:
        yield "it was cancelled without a request"
    if job.status == "failed":
        ran = sum(1 for attempt in job.attempts if attempt.claimed_at is not None)
        code = job.error_code
        is_known = code in _CODES_OF_FAULTS or code.startswith("agent_")
        if not is_known and not (job.cancel_requested and code == "cancel_unproven"):
            yield f"it failed as {code or 'nothing'}, which no fault explains"
        elif ran < job.max_attempts and not job.cancel_requested and code in {"lost", "disk_full", "interrupted"}:
            yield f"it failed as {code} after {ran} of {job.max_attempts} attempts"


def one_job_for_a_key(history: RunHistory) -> Iterator[tuple[str, str]]:
    """Find idempotency keys with several jobs, and jobs that no answer named."""
    owners: dict[str, list[str]] = {}
    for job in history.jobs:
        owners.setdefault(job.key, []).append(job.job_id)
    for key in sorted(owners.keys() | history.answers.keys()):
        named, stored = history.answers.get(key, frozenset()), owners.get(key, [])
        if len(stored) != 1 or named != set(stored):
            yield "", f"the key {key} has the jobs {stored}, and the answers named {sorted(named)}"


def one_job_of_a_concurrency_key_at_a_time(history: RunHistory) -> Iterator[tuple[str, str]]:
    """Find two jobs with the same concurrency key and attempts at the same time."""
    spans: dict[str, list[tuple[float, float, str]]] = {}
    for job in history.jobs:
        if job.concurrency_key:
            spans.setdefault(job.concurrency_key, []).extend(
                (attempt.claimed_at, attempt.ended_at or float("inf"), job.job_id)
                for attempt in job.attempts
                if attempt.claimed_at is not None
            )
    for key, found in spans.items():
        for (_, ended, first), (claimed, _, second) in pairwise(sorted(found)):
            if claimed < ended and first != second:
                yield second, f"it ran while {first} ran, and both have the concurrency key {key}"


def no_wait_while_a_slot_is_free(history: RunHistory) -> Iterator[tuple[str, str]]:
    """Find a job that waits for longer than ``MAX_IDLE_S`` while a shard has a free slot in its own view.

    A fault of a part between queue and slot pauses the clock. It sets the clock of a job back whose message it may
    have lost, because the control plane only notices this at the claim deadline.
    """
    waited: dict[str, float] = {}
    reported: set[str] = set()
    for before, now in pairwise(history.samples):
        gap_s = now.at - before.at
        is_broken = gap_s > MAX_GAP_S or _is_broken(history.faults, before, now)
        waited = {job_id: waited.get(job_id, 0.0) for job_id in now.ready}
        for job_id, attempt in now.ready.items():
            may_be_lost = is_broken and bool(attempt or before.ready.get(job_id))
            if job_id not in before.ready or may_be_lost or not _has_slot(now, job_id):
                waited[job_id] = 0.0
            elif not is_broken:
                waited[job_id] += gap_s
            if waited[job_id] > MAX_IDLE_S and job_id not in reported:
                reported.add(job_id)
                yield job_id, f"it waited {waited[job_id]:.0f} s until {now.at:.0f} s with the free slots {now.free}"


def _has_slot(sample: SlotSample, job_id: str) -> bool:
    """Tell whether a job has a slot: one of its own if it was sent, or one that no other sent job is about to take."""
    sent = sum(1 for attempt in sample.ready.values() if attempt)
    return sum(sample.free.values()) > (0 if sample.ready[job_id] else sent)


def _is_broken(faults: Iterable[FaultFacts], before: SlotSample, now: SlotSample) -> bool:
    return any(
        fault.part in _WAY_TO_A_SLOT and fault.began <= now.at and fault.ended >= before.at
        for fault in faults
        if fault.took_effect
    )


def nothing_left_behind(history: RunHistory) -> Iterator[tuple[str, str]]:
    """Find leftovers after all jobs ended."""
    return (("", text) for text in history.leftovers)


JOB_RULES: Final[tuple[Callable[[JobFacts], Iterator[str]], ...]] = (
    one_terminal_state,
    one_accepted_writer,
    one_stream,
    one_branch_and_one_callback,
    an_explained_end,
)
RUN_RULES: Final[tuple[Callable[[RunHistory], Iterator[tuple[str, str]]], ...]] = (
    one_job_for_a_key,
    one_job_of_a_concurrency_key_at_a_time,
    no_wait_while_a_slot_is_free,
    nothing_left_behind,
)
