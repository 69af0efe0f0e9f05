"""``/shard/v1/jobs/{id}/…``: what runners call. Shapes are in ``jobs/contract.py``; here they are checked."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from jobs.attempts.claim import claim as attempts
from jobs.attempts.claim import ingest
from jobs.errors import Fenced
from myctobot.contract.jobs import (
    CLAIM_HEADER,
    MAX_BATCH_EVENTS,
    MAX_EVENT_BYTES,
    CancelProof,
    ClaimAnswer,
    ClaimRequest,
    Event,
    EventKind,
    EventsRequest,
    FinishError,
    FinishRequest,
    LeaseAnswer,
    Outcome,
    Phase,
)
from shards.shard_api.call import Call
from shards.shard_api.validation import MOST, Shape, shape_of

# Those that runners may send; the others are made by the control plane.
KINDS: Final = frozenset(kind.value for kind in EventKind if kind not in (EventKind.END, EventKind.DROPPED))
_OUTCOMES: Final = frozenset(outcome.value for outcome in Outcome)
_PHASES: Final = frozenset(phase.value for phase in Phase)
_CODE: Final = re.compile(r"[A-Za-z0-9_-]*")
_MAX_AT: Final = 40
_MAX_CODE: Final = 60
_MAX_MESSAGE: Final = 4000


def claim(call: Call, job_id: str) -> ClaimAnswer:
    with shape_of(call.json()) as sent:
        request = ClaimRequest(attempt=_attempt(sent), claim_token=sent.text("claim_token", 200, least=32))
    return attempts.claim(call.key_hash, job_id, request)


def events(call: Call, job_id: str) -> LeaseAnswer:
    with shape_of(call.json()) as sent:
        request = EventsRequest(
            attempt=_attempt(sent), first_seq=sent.whole("first_seq", 1), events=_events(sent, sent.any("events"))
        )
        if sent.has("phase"):
            request["phase"] = sent.one_of("phase", _PHASES)
    return ingest.append_events(call.key_hash, job_id, _claim_token(call), request)


def finish(call: Call, job_id: str) -> LeaseAnswer:
    with shape_of(call.json()) as sent:
        request = FinishRequest(
            attempt=_attempt(sent),
            outcome=sent.one_of("outcome", _OUTCOMES),
            final_seq=sent.whole("final_seq"),
            result=sent.object("result"),
            error=_error(sent.shape("error")) if sent.has("error") else None,
            proof=_proof(sent.shape("proof")) if sent.has("proof") else None,
        )
        if request["outcome"] == Outcome.FAILED and not request["error"]:
            sent.wrong("error", "A failure needs its reason.")
        if len(json.dumps(request["result"])) > MAX_EVENT_BYTES:
            sent.wrong("result", f"Has more than {MAX_EVENT_BYTES} bytes.")
    return attempts.finish(call.key_hash, job_id, _claim_token(call), request)


def _claim_token(call: Call) -> str:
    if call.claim_token is None:
        raise Fenced(f"The header {CLAIM_HEADER} is missing.")
    return call.claim_token


def _attempt(sent: Shape) -> int:
    # However large: it is the number of no attempt.
    return sent.whole("attempt", 1)


def _error(sent: Shape) -> FinishError:
    code = sent.text("code", _MAX_CODE)
    if not _CODE.fullmatch(code):
        sent.wrong("code", "Must have letters, digits, - and _ alone.")
    return FinishError(code=code, message=sent.text("message", _MAX_MESSAGE), retryable=sent.truth("retryable"))


def _proof(sent: Shape) -> CancelProof:
    return CancelProof(
        processes_killed=sent.whole("processes_killed", 0, MOST),
        processes_left=sent.whole("processes_left", 0, MOST),
        checked_at=sent.text("checked_at", 40),
    )


def _events(sent: Shape, value: Any) -> list[Event]:
    """At most ``MAX_BATCH_EVENTS`` events; what is not part of an event is left out."""
    if value is None:
        return []
    if not isinstance(value, list):
        sent.wrong("events", "Must be a list of events.")
        return []
    if len(value) > MAX_BATCH_EVENTS:
        sent.wrong("events", f"Has {len(value)} events; at most {MAX_BATCH_EVENTS} are taken at once.")
        return []
    return [_event(sent, index, item) for index, item in enumerate(value)]


def _event(sent: Shape, index: int, item: Any) -> Event:
    # By hand: one request holds hundreds of these.
    if not isinstance(item, dict):
        sent.wrong(f"events.{index}", "Must be an object.")
        item = {}
    seq, at, kind, data = item.get("seq"), item.get("at"), item.get("kind"), item.get("data")
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 1:
        sent.wrong(f"events.{index}.seq", "Must be a whole number from 1.")
    elif not isinstance(at, str) or not 1 <= len(at) <= _MAX_AT:
        sent.wrong(f"events.{index}.at", f"Must be a time of 1 to {_MAX_AT} characters.")
    elif not isinstance(kind, str) or kind not in KINDS:
        sent.wrong(f"events.{index}.kind", f"Must be one of: {', '.join(sorted(KINDS))}.")
    elif not isinstance(data, dict):
        sent.wrong(f"events.{index}.data", "Must be an object.")
    return Event(seq=seq, at=at, kind=kind, data=data)
