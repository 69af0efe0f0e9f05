"""Storage of a runner's events: in order, once each, masked, and cut where they are too large."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db import transaction

from jobs.attempts.fencing import (
    FENCE_SQL,
    IS_FENCED_SQL,
    FencedAttempt,
    SecretlessAttempts,
    load_fenced_attempt,
)
from jobs.errors import Fenced, OutOfOrder
from jobs.events.encoding import EventBlock, encode
from jobs.events.truncation import COUNT_BATCH_SQL, FITS_SQL, LogSize, bound_values, fits, truncate_middle
from jobs.models import USAGE_FIELDS
from jobs.models.transition_table import REPORT
from jobs.streaming.notify import announce_change, announce_events
from myctobot.contract.jobs import Event, EventKind, truncate_event
from myctobot.contract.limits import LEASE_S
from myctobot.contract.redaction import Redactor
from myctobot.contract.runner import EventsRequest, LeaseAnswer
from myctobot.errors import InvalidRequest
from myctobot.lib.sql import fetch_one, without_index

# Each other writer makes progress, so a call that loses against so many of them comes from a broken shard.
_MAX_TRIES: Final = 20

# One statement, because each round trip costs more than what is written. It compares before it writes anything.
_STORE = f"""
    WITH {FENCE_SQL}, held AS (
        UPDATE jobs_job SET next_seq = %(next_seq)s, {REPORT.assignments}, {COUNT_BATCH_SQL}
        WHERE {IS_FENCED_SQL} AND {REPORT.condition(without_index)}
            AND (%(masks_secrets)s OR sealed IS NULL) AND (%(truncates)s OR {FITS_SQL})
        RETURNING id, cancel_requested_at, phase <> (SELECT phase FROM own) AS has_moved, log_bytes, log_head_seq
    ), batch AS (
        INSERT INTO jobs_eventbatch (job_id, attempt_number, first_seq, last_seq, lines, bytes)
        SELECT id, %(number)s, %(expected_seq)s, %(last_seq)s, %(lines)s, %(bytes)s FROM held WHERE %(bytes)s > 0
    ), lease AS (
        UPDATE jobs_attempt SET lease_until = statement_timestamp() + make_interval(secs => %(lease_s)s),
            usage = COALESCE(%(usage)s::jsonb, usage)
        WHERE id = (SELECT attempt_id FROM own) AND EXISTS (SELECT FROM held)
    )
    SELECT id, cancel_requested_at, has_moved, log_bytes, log_head_seq FROM held
"""  # noqa: S608  # only our own constants


def append_events(
    key_hash: str, job_id: str, claim_token: str, request: EventsRequest, known: SecretlessAttempts
) -> LeaseAnswer:
    """Store a batch of events and renew the lease. Idempotent by number: events that are stored already are skipped.

    Args:
        key_hash: digest of the caller's shard key.
        job_id: public id of the job, which comes from a URL and may be any text.
        claim_token: secret of the calling runner.
        request: see the contract.
        known: attempts whose first write needs no read before it.

    Raises:
        UnknownJob, Fenced: see ``load_fenced_attempt``; or the attempt does not run any more.
        OutOfOrder: the batch starts after the number expected; nothing is stored.
        InvalidRequest: the events' numbers are not consecutive.
    """
    caller = (key_hash, job_id, request["attempt"], claim_token)
    first = request["first_seq"]
    if [event["seq"] for event in request["events"]] != list(range(first, first + len(request["events"]))):
        # Only the runner of the attempt learns what is wrong with its batch.
        load_fenced_attempt(*caller)
        raise InvalidRequest(fields={"events": ["The numbers must be consecutive and start with first_seq."]})
    fenced = known.assume(*caller, first) or known.load(*caller)
    for _ in range(_MAX_TRIES):
        batch = _new_batch(fenced, request)
        if (stored := _store(fenced, batch)) is not None:
            _announce(fenced, batch, has_moved=stored.has_moved)
            return fenced.lease_answer(batch.next_seq, stored.cancel_requested_at)
        # The assumption was wrong, or another writer changed the job since it was read.
        fenced = known.load(*caller)
    raise Fenced


@dataclass(frozen=True)
class _Batch:
    """Events of a request that are not stored yet.

    Attributes:
        block: None when there are none, and the call only renews the lease.
        next_seq: number of the event after them.
        phase: None when the runner reports none.
    """

    block: EventBlock | None
    next_seq: int
    phase: str | None
    usage: dict[str, Any] | None

    @property
    def text(self) -> str:
        return "\n".join(self.block.lines) if self.block else ""


def _new_batch(fenced: FencedAttempt, request: EventsRequest) -> _Batch:
    """Return what is new in a request.

    Raises:
        Fenced: the attempt does not run any more.
        OutOfOrder: events are missing before the first one.
    """
    if not fenced.is_running:
        raise Fenced
    expected = fenced.next_seq
    if request["first_seq"] > expected:
        raise OutOfOrder(f"Event {expected} is expected next.", expected=expected)
    events, phase = request["events"][expected - request["first_seq"] :], request.get("phase")
    if not events:
        return _Batch(None, expected, phase, None)
    lines = tuple(_line(event, fenced.redactor) for event in events)
    block = EventBlock(expected, expected + len(events) - 1, lines)
    return _Batch(block, block.last_seq + 1, phase, _latest_usage(events))


class _Stored(NamedTuple):
    job_pk: int
    cancel_requested_at: datetime | None
    has_moved: bool
    log_bytes: int
    log_head_seq: int


def _store(fenced: FencedAttempt, batch: _Batch) -> _Stored | None:
    """Store a batch and renew the lease; None when the job is not as it was read, and nothing is written."""
    text = batch.text
    truncates = bool(text) and not fits(fenced.job.log_bytes, len(text))
    values = {
        **fenced.values,
        **bound_values(),
        "next_seq": batch.next_seq,
        "last_seq": batch.next_seq - 1,
        "phase": batch.phase,
        "lines": text,
        "bytes": len(text),
        "usage": json.dumps(batch.usage) if batch.usage else None,
        "lease_s": LEASE_S,
        "masks_secrets": bool(fenced.job.encrypted_secrets),
        # A renewal adds nothing, so a log beyond its bound must not stop it.
        "truncates": truncates or not text,
    }
    if not truncates:
        return _row(values)
    with transaction.atomic():
        if (stored := _row(values)) is not None:
            truncate_middle(stored.job_pk, LogSize(stored.log_bytes, stored.log_head_seq), batch.next_seq - 1)
    return stored


def _row(values: dict[str, Any]) -> _Stored | None:
    row = fetch_one(_STORE, values)
    return None if row is None else _Stored(*row)


def _announce(fenced: FencedAttempt, batch: _Batch, *, has_moved: bool) -> None:
    if batch.block:
        announce_events(fenced.job.public_id, batch.block)
    if has_moved:
        announce_change(fenced.job.public_id)


def _line(event: Event, redactor: Redactor) -> str:
    # Cut after the redaction: half a secret would not be found.
    kind, data, text = truncate_event(event["kind"], redactor.redact(event["data"]))
    return encode(Event(seq=event["seq"], at=redactor.redact_text(event["at"]), kind=kind, data=data), text)


def _latest_usage(events: list[Event]) -> dict[str, Any] | None:
    found = [event["data"] for event in events if event["kind"] == EventKind.USAGE]
    if not found:
        return None
    # A shard may send any value; only figures are kept.
    return {name: found[-1][name] for name in USAGE_FIELDS if _is_figure(found[-1].get(name))}


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15
