"""How a runner's events are stored: in order, once each, masked, cut where they are too large."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from jobs.contract import Cleaner, Event, EventKind, EventsRequest, JobStatus, LeaseAnswer, bounded
from jobs.errors import Fenced, OutOfOrder
from jobs.event_lines import Lines, encode
from jobs.fencing import cleaner_of, fenced, lease_answer, lease_end
from jobs.log_bound import after_append
from jobs.models import USAGE_FIELDS, Attempt, EventBatch, Job
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
    next_seq = job.next_seq + len(fresh)
    renewed: dict[str, Any] = {"lease_until": lease_end()}
    changes: dict[str, Any] = {}
    if fresh:
        cleaner = cleaner_of(job, attempt, claim_token)
        lines = Lines(job.next_seq, next_seq - 1, tuple(_line(event, cleaner) for event in fresh))
        changes = {"next_seq": next_seq, **_store(job, attempt, lines)}
        if usage := _latest_usage(fresh):
            renewed["usage"] = usage
    if (phase := request.get("phase") or job.phase) != job.phase:
        changes["phase"] = phase
        announce_change(job.public_id)
    if changes:
        Job.objects.filter(pk=job.pk).update(**changes)
    Attempt.objects.filter(pk=attempt.pk).update(**renewed)
    return lease_answer(job, next_seq)


def _line(event: Event, cleaner: Cleaner) -> str:
    # Cut after the masking: half a secret would be none that can be found.
    kind, data, text = bounded(event["kind"], cleaner.clean(event["data"]))
    return encode(Event(seq=event["seq"], at=cleaner.text(event["at"]), kind=kind, data=data), text)


def _store(job: Job, attempt: Attempt, lines: Lines) -> dict[str, Any]:
    """Store a batch, tell the viewers after commit, and return what changes in the job's row."""
    text = "\n".join(lines.lines)
    EventBatch.objects.create(
        job=job,
        attempt_number=attempt.number,
        first_seq=lines.first_seq,
        last_seq=lines.last_seq,
        lines=text,
        bytes=len(text),
    )
    announce_events(job.public_id, lines)
    size = after_append(job, lines.last_seq, len(text))
    return {"log_bytes": size.stored, "log_head_seq": size.head_seq}


def _latest_usage(events: list[Event]) -> dict[str, Any] | None:
    found = [event["data"] for event in events if event["kind"] == EventKind.USAGE]
    if not found:
        return None
    figures = {name: found[-1].get(name) for name in USAGE_FIELDS}
    # A shard can say anything; what is no figure is left out.
    return {name: value for name, value in figures.items() if _is_figure(value)}


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15
