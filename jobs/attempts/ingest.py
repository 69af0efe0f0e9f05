"""How a runner's events are stored: in order, once each, masked, cut where they are too large."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction

from jobs.attempts.fencing import cleaner_of, cleaner_without_secrets, held, lease_answer
from jobs.errors import Fenced, OutOfOrder
from jobs.events.encoding import Lines, encode
from jobs.events.truncation import drop_middle, size_after
from jobs.models.job import USAGE_FIELDS, Attempt, Job
from jobs.models.states import AttemptState
from jobs.streaming.notify import announce_change, announce_events
from myctobot.contract.jobs import LEASE_S, Cleaner, Event, EventKind, EventsRequest, JobStatus, LeaseAnswer, bounded
from myctobot.errors import InvalidRequest
from myctobot.lib.crypto import digest
from myctobot.lib.sql import one_row

# Whoever wrote in between has come a step further, so a writer that sees this many of them is a broken shard's.
_MOST_TRIES = 20


def append_events(key_hash: str, job_id: str, claim_token: str, request: EventsRequest) -> LeaseAnswer:
    """Store a batch of events and renew the lease. Idempotent by number: what is stored already is passed over.

    Raises:
        UnknownJob, Fenced: see ``held``; or the attempt does not run any more.
        OutOfOrder: the batch starts after the number expected; nothing is stored.
        InvalidRequest: the events' numbers are not consecutive.
    """
    first = request["first_seq"]
    if [event["seq"] for event in request["events"]] != list(range(first, first + len(request["events"]))):
        # Told after the fence, to whom it lets through.
        held(key_hash, job_id, request["attempt"], claim_token)
        raise InvalidRequest(fields={"events": ["The numbers must be consecutive and start with first_seq."]})
    if (at_once := _append_at_once(key_hash, job_id, claim_token, request)) is not None:
        return at_once
    for _ in range(_MOST_TRIES):
        mine = held(key_hash, job_id, request["attempt"], claim_token)
        if (answer := _append(*mine, claim_token, request)) is not None:
            return answer
    raise Fenced


# What is written once a job is ``held``: the batch, and the lease of its attempt.
_BATCH_AND_LEASE = """
    batch AS (
        INSERT INTO jobs_eventbatch (job_id, attempt_number, first_seq, last_seq, lines, bytes)
        SELECT id, %s, %s, %s, %s, %s FROM held
    ), lease AS (
        UPDATE jobs_attempt SET lease_until = statement_timestamp() + make_interval(secs => %s),
            usage = COALESCE(%s::jsonb, usage)
        WHERE id = (SELECT attempt_id FROM held)
    )
"""
# Most batches are the next of a running attempt whose job has no secrets and room in its log. One statement stores such
# a batch; it finds nothing when any of this is not so. What is added to columns hides indexes, as in ``fencing``.
_STORE_NEXT = f"""
    WITH mine AS MATERIALIZED (
        SELECT job.id, job.phase, attempt.id AS attempt_id, attempt.state
        FROM jobs_job AS job JOIN jobs_attempt AS attempt ON attempt.job_id = job.id
            JOIN shards_shard AS shard ON shard.id = attempt.shard_id
        WHERE job.public_id = %s AND attempt.number + 0 = %s AND attempt.claim_hash = %s AND shard.key_hash = %s
    ), held AS (
        UPDATE jobs_job AS job SET next_seq = %s, phase = COALESCE(%s, job.phase), log_bytes = job.log_bytes + %s,
            log_head_seq = CASE WHEN job.log_bytes + %s <= %s THEN %s ELSE job.log_head_seq END
        FROM mine
        WHERE job.id = (SELECT id FROM mine) AND job.next_seq = %s AND job.attempt_number = %s
            AND mine.state = 'running' AND job.status || '' = 'running' AND job.log_bytes + %s <= %s
        RETURNING job.id, job.cancel_requested_at, job.phase <> mine.phase AS moved, mine.attempt_id
    ), {_BATCH_AND_LEASE}
    SELECT cancel_requested_at, moved FROM held
"""  # noqa: S608  # only our own constants


def _append_at_once(key_hash: str, job_id: str, claim_token: str, request: EventsRequest) -> LeaseAnswer | None:
    """Store a batch by one statement; None when it takes a closer look."""
    number, events = request["attempt"], request["events"]
    cleaner = cleaner_without_secrets(job_id, number, claim_token)
    if cleaner is None or not events:
        return None
    lines = Lines(events[0]["seq"], events[-1]["seq"], tuple(_line(event, cleaner) for event in events))
    text = "\n".join(lines.lines)
    most, usage = settings.JOB_LOG_MAX_BYTES, _latest_usage(events)
    mine = (job_id, number, digest(claim_token), key_hash)
    log = (len(text), len(text), most // 2, lines.last_seq)
    held = (lines.last_seq + 1, request.get("phase"), *log, lines.first_seq, number, len(text), most)
    batch = (number, lines.first_seq, lines.last_seq, text, len(text))
    row = one_row(_STORE_NEXT, (*mine, *held, *batch, LEASE_S, json.dumps(usage) if usage else None))
    if row is None:
        return None
    cancel_requested_at, moved = row
    announce_events(job_id, lines)
    if moved:
        announce_change(job_id)
    return lease_answer(lines.last_seq + 1, cancel_requested_at)


def _append(job: Job, attempt: Attempt, claim_token: str, request: EventsRequest) -> LeaseAnswer | None:
    """Store what is new; None when somebody else changed the job since it was read."""
    if attempt.state != AttemptState.RUNNING or job.status != JobStatus.RUNNING:
        raise Fenced
    if request["first_seq"] > job.next_seq:
        raise OutOfOrder(f"Event {job.next_seq} is expected next.", expected=job.next_seq)
    fresh = request["events"][job.next_seq - request["first_seq"] :]
    phase = request.get("phase") or job.phase
    if not fresh:
        stored = _renew(job, attempt, phase)
    else:
        cleaner = cleaner_of(job, attempt, claim_token)
        lines = Lines(job.next_seq, job.next_seq + len(fresh) - 1, tuple(_line(event, cleaner) for event in fresh))
        stored = _store(job, attempt, lines, phase, _latest_usage(fresh))
    if stored is None:
        return None
    if fresh:
        announce_events(job.public_id, lines)
    if phase != job.phase:
        announce_change(job.public_id)
    return lease_answer(job.next_seq + len(fresh), stored.cancel_requested_at)


# One statement a call: each way to the database costs more than what is written there. It compares what was read
# before it sets anything; times are the database's.
_STORE = f"""
    WITH held AS (
        UPDATE jobs_job SET next_seq = %s, phase = %s, log_bytes = %s, log_head_seq = %s
        WHERE id = %s AND next_seq = %s AND attempt_number = %s AND status = 'running'
        RETURNING id, cancel_requested_at, %s::bigint AS attempt_id
    ), {_BATCH_AND_LEASE}
    SELECT cancel_requested_at FROM held
"""  # noqa: S608  # only our own constants
_RENEW = """
    WITH held AS (
        SELECT id, cancel_requested_at FROM jobs_job
        WHERE id = %s AND next_seq = %s AND attempt_number = %s AND status = 'running' FOR NO KEY UPDATE
    ), lease AS (
        UPDATE jobs_attempt SET lease_until = statement_timestamp() + make_interval(secs => %s)
        WHERE id = %s AND EXISTS (SELECT FROM held)
    ), phase AS (
        UPDATE jobs_job SET phase = %s WHERE phase <> %s AND id IN (SELECT id FROM held)
    )
    SELECT cancel_requested_at FROM held
"""


class _Stored(NamedTuple):
    cancel_requested_at: datetime | None


def _store(job: Job, attempt: Attempt, lines: Lines, phase: str, usage: dict[str, Any] | None) -> _Stored | None:
    text = "\n".join(lines.lines)
    size = size_after(job, lines.last_seq, len(text))
    row = (lines.last_seq + 1, phase, size.stored, size.head_seq)
    batch = (attempt.number, lines.first_seq, lines.last_seq, text, len(text))
    lease = (LEASE_S, json.dumps(usage) if usage else None)
    values = (*row, job.pk, job.next_seq, attempt.number, attempt.pk, *batch, *lease)
    if not size.excess:
        return _written(_STORE, values)
    with transaction.atomic():
        if (stored := _written(_STORE, values)) is not None:
            drop_middle(job, size, lines.last_seq)
    return stored


def _renew(job: Job, attempt: Attempt, phase: str) -> _Stored | None:
    return _written(_RENEW, (job.pk, job.next_seq, attempt.number, LEASE_S, attempt.pk, phase, phase))


def _written(statement: str, values: tuple[Any, ...]) -> _Stored | None:
    row = one_row(statement, values)
    return None if row is None else _Stored(*row)


def _line(event: Event, cleaner: Cleaner) -> str:
    # Cut after the masking: half a secret would be none that can be found.
    kind, data, text = bounded(event["kind"], cleaner.clean(event["data"]))
    return encode(Event(seq=event["seq"], at=cleaner.text(event["at"]), kind=kind, data=data), text)


def _latest_usage(events: list[Event]) -> dict[str, Any] | None:
    found = [event["data"] for event in events if event["kind"] == EventKind.USAGE]
    if not found:
        return None
    figures = {name: found[-1].get(name) for name in USAGE_FIELDS}
    # A shard can say anything; what is no figure is left out.
    return {name: value for name, value in figures.items() if _is_figure(value)}


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15
