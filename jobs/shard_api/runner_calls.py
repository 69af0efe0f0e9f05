"""Validation of the calls of runners, ``/shard/v1/jobs/{id}/…``; the contract is in ``myctobot/contract/``."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from jobs.attempts.claim import claim_attempt
from jobs.attempts.fencing import SecretlessAttempts
from jobs.attempts.finish import finish_attempt
from jobs.attempts.git_token import read_git_token
from jobs.attempts.ingest import append_events
from jobs.errors import Fenced
from myctobot.contract.jobs import Event, EventKind, Outcome, Phase
from myctobot.contract.limits import MAX_BATCH_EVENTS, MAX_EVENT_BYTES
from myctobot.contract.runner import (
    CLAIM_HEADER,
    CancelProof,
    ClaimAnswer,
    ClaimRequest,
    EventsRequest,
    FinishError,
    FinishRequest,
    GitTokenAnswer,
    GitTokenRequest,
    LeaseAnswer,
)
from shards.shard_api.call import ShardCall
from shards.shard_api.validation import MAX_INTEGER, FieldReader, read_fields

# Runners may send these kinds; the control plane makes the others.
KINDS: Final = frozenset(kind.value for kind in EventKind if kind not in (EventKind.END, EventKind.DROPPED))
_OUTCOMES: Final = frozenset(outcome.value for outcome in Outcome)
_PHASES: Final = frozenset(phase.value for phase in Phase)
_CODE: Final = re.compile(r"[A-Za-z0-9_-]*")
_MAX_AT: Final = 40
_MAX_CODE: Final = 60
_MAX_MESSAGE: Final = 4000


def claim(call: ShardCall, job_id: str, known: SecretlessAttempts) -> ClaimAnswer:
    with read_fields(call.json()) as sent:
        request = ClaimRequest(attempt=read_attempt(sent), claim_token=sent.text("claim_token", 200, minimum=32))
    return claim_attempt(call.key_hash, job_id, request, known)


def events(call: ShardCall, job_id: str, known: SecretlessAttempts) -> LeaseAnswer:
    with read_fields(call.json()) as sent:
        request = EventsRequest(
            attempt=read_attempt(sent),
            first_seq=sent.integer("first_seq", 1),
            events=_events(sent, sent.required("events")),
        )
        if sent.has("phase"):
            request["phase"] = sent.one_of("phase", _PHASES)
    return append_events(call.key_hash, job_id, claim_token_of(call), request, known)


def finish(call: ShardCall, job_id: str, known: SecretlessAttempts) -> LeaseAnswer:
    with read_fields(call.json()) as sent:
        request = FinishRequest(
            attempt=read_attempt(sent),
            outcome=sent.one_of("outcome", _OUTCOMES),
            final_seq=sent.integer("final_seq"),
            result=sent.object("result"),
            error=_error(sent.nested("error")) if sent.has("error") else None,
            proof=_proof(sent.nested("proof")) if sent.has("proof") else None,
        )
        if request["outcome"] == Outcome.FAILED and not request["error"]:
            sent.add_error("error", "A failure needs its reason.")
        if len(json.dumps(request["result"])) > MAX_EVENT_BYTES:
            sent.add_error("result", f"Has more than {MAX_EVENT_BYTES} bytes.")
    return finish_attempt(call.key_hash, job_id, claim_token_of(call), request, known)


def git_token(call: ShardCall, job_id: str, known: SecretlessAttempts) -> GitTokenAnswer:
    with read_fields(call.json()) as sent:
        request = GitTokenRequest(attempt=read_attempt(sent))
    return read_git_token(call.key_hash, job_id, claim_token_of(call), request)


def claim_token_of(call: ShardCall) -> str:
    if call.claim_token is None:
        raise Fenced(f"The header {CLAIM_HEADER} is missing.")
    return call.claim_token


def read_attempt(sent: FieldReader) -> int:
    # No upper bound: a number that is too large is the number of no attempt.
    return sent.integer("attempt", 1)


def _error(sent: FieldReader) -> FinishError:
    code = sent.text("code", _MAX_CODE)
    if not _CODE.fullmatch(code):
        sent.add_error("code", "Must have only letters, digits, - and _.")
    return FinishError(code=code, message=sent.text("message", _MAX_MESSAGE), retryable=sent.boolean("retryable"))


def _proof(sent: FieldReader) -> CancelProof:
    return CancelProof(
        processes_killed=sent.integer("processes_killed", 0, MAX_INTEGER),
        processes_left=sent.integer("processes_left", 0, MAX_INTEGER),
        checked_at=sent.text("checked_at", 40),
    )


def _events(sent: FieldReader, value: Any) -> list[Event]:
    """Return at most ``MAX_BATCH_EVENTS`` events, without fields that are not part of an event."""
    if value is None:
        return []
    if not isinstance(value, list):
        sent.add_error("events", "Must be a list of events.")
        return []
    if len(value) > MAX_BATCH_EVENTS:
        sent.add_error("events", f"Has {len(value)} events; at most {MAX_BATCH_EVENTS} are taken at once.")
        return []
    return [_event(sent, index, item) for index, item in enumerate(value)]


def _event(sent: FieldReader, index: int, item: Any) -> Event:
    # Without a field reader, because one request holds hundreds of events.
    if not isinstance(item, dict):
        sent.add_error(f"events.{index}", "Must be an object.")
        item = {}
    seq, at, kind, data = item.get("seq"), item.get("at"), item.get("kind"), item.get("data")
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 1:
        sent.add_error(f"events.{index}.seq", "Must be a whole number from 1.")
    elif not isinstance(at, str) or not 1 <= len(at) <= _MAX_AT:
        sent.add_error(f"events.{index}.at", f"Must be a time of 1 to {_MAX_AT} characters.")
    elif not isinstance(kind, str) or kind not in KINDS:
        sent.add_error(f"events.{index}.kind", f"Must be one of: {', '.join(sorted(KINDS))}.")
    elif not isinstance(data, dict):
        sent.add_error(f"events.{index}.data", "Must be an object.")
    return Event(seq=seq, at=at, kind=kind, data=data)
