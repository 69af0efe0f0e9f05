"""How a runner's events are stored: in order, once each, masked, cut where they are too large."""

from __future__ import annotations

import json
from typing import Any

from django.db import connection, transaction

from jobs.contract import LEASE_S, Cleaner, Event, EventKind, EventsRequest, JobStatus, LeaseAnswer, bounded
from jobs.errors import Fenced, OutOfOrder
from jobs.event_lines import Lines, encode
from jobs.fencing import cleaner_of, fenced, lease_answer
from jobs.log_bound import after_append
from jobs.models import USAGE_FIELDS, Attempt, Job
from jobs.states import AttemptState
from jobs.streaming.notify import announce_change, announce_events
from myctobot.errors import InvalidRequest
from shards.models import Shard


@transaction.atomic
def append_events(shard: Shard, job_id: str, claim_token: str, request: EventsRequest) -> LeaseAnswer:
    """Store a batch of events and renew the lease. Idempotent by number: what is stored already is passed over.

    Raises:
        Fenced: the attempt is not the present one any more.
        OutOfOrder: the batch starts after the number expected; nothing is stored.
        InvalidRequest: the events' numbers are not consecutive.
    """
    job, attempt = fenced(shard, job_id, request["attempt"], claim_token)
    if attempt.state != AttemptState.RUNNING or job.status != JobStatus.RUNNING:
        raise Fenced
    first = request["first_seq"]
    if [event["seq"] for event in request["events"]] != list(range(first, first + len(request["events"]))):
        raise InvalidRequest(fields={"events": ["The numbers must be consecutive and start with first_seq."]})
    if first > job.next_seq:
        raise OutOfOrder(f"Event {job.next_seq} is expected next.", expected=job.next_seq)
    fresh = request["events"][job.next_seq - first :]
    phase = request.get("phase") or job.phase
    if fresh:
        cleaner = cleaner_of(job, attempt, claim_token)
        lines = Lines(job.next_seq, job.next_seq + len(fresh) - 1, tuple(_line(event, cleaner) for event in fresh))
        _store(job, attempt, lines, phase, _latest_usage(fresh))
        announce_events(job.public_id, lines)
    else:
        _renew(job, attempt, phase)
    if phase != job.phase:
        announce_change(job.public_id)
    return lease_answer(job, job.next_seq + len(fresh))


# One statement a call: each way to the database costs more than what is written there. Times are the database's.
_STORE = """
    WITH batch AS (
        INSERT INTO jobs_eventbatch (job_id, attempt_number, first_seq, last_seq, lines, bytes)
        VALUES (%s, %s, %s, %s, %s, %s)
    ), lease AS (
        UPDATE jobs_attempt SET lease_until = statement_timestamp() + make_interval(secs => %s),
            usage = COALESCE(%s::jsonb, usage)
        WHERE id = %s
    )
    UPDATE jobs_job SET next_seq = %s, phase = %s, log_bytes = %s, log_head_seq = %s WHERE id = %s
"""
_RENEW = """
    WITH lease AS (
        UPDATE jobs_attempt SET lease_until = statement_timestamp() + make_interval(secs => %s) WHERE id = %s
    )
    UPDATE jobs_job SET phase = %s WHERE id = %s AND phase <> %s
"""


def _store(job: Job, attempt: Attempt, lines: Lines, phase: str, usage: dict[str, Any] | None) -> None:
    text = "\n".join(lines.lines)
    size = after_append(job, lines.last_seq, len(text))
    batch = (job.pk, attempt.number, lines.first_seq, lines.last_seq, text, len(text))
    lease = (LEASE_S, json.dumps(usage) if usage else None, attempt.pk)
    row = (lines.last_seq + 1, phase, size.stored, size.head_seq, job.pk)
    with connection.cursor() as cursor:
        cursor.execute(_STORE, (*batch, *lease, *row))


def _renew(job: Job, attempt: Attempt, phase: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_RENEW, (LEASE_S, attempt.pk, phase, job.pk, phase))


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
