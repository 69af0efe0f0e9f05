"""Checks the events of a batch: by hand, since one request holds hundreds of them and a serializer each costs more
than storing them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from jobs.contract import MAX_BATCH_EVENTS, Event, EventKind

# Those that runners may send; the others are made by the control plane.
KINDS = frozenset(kind.value for kind in EventKind if kind not in (EventKind.END, EventKind.DROPPED))
_MAX_AT = 40


class EventsField(serializers.Field[list[Event], Any, Any, Any]):
    """A list of at most ``MAX_BATCH_EVENTS`` events; what is not part of an event is left out."""

    def to_internal_value(self, data: Any) -> list[Event]:
        if not isinstance(data, list):
            raise serializers.ValidationError("Must be a list of events.")
        if len(data) > MAX_BATCH_EVENTS:
            raise serializers.ValidationError(f"Has {len(data)} events; at most {MAX_BATCH_EVENTS} are taken at once.")
        return [_event(index, item) for index, item in enumerate(data)]


def _event(index: int, item: Any) -> Event:
    if not isinstance(item, dict):
        raise serializers.ValidationError({str(index): ["Must be an object."]})
    seq, at, kind, data = (item.get(name) for name in ("seq", "at", "kind", "data"))
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 1:
        raise _wrong(index, "seq", "Must be a whole number from 1.")
    if not isinstance(at, str) or not 1 <= len(at) <= _MAX_AT:
        raise _wrong(index, "at", f"Must be a time of 1 to {_MAX_AT} characters.")
    if not isinstance(kind, str) or kind not in KINDS:
        raise _wrong(index, "kind", f"Must be one of: {', '.join(sorted(KINDS))}.")
    if not isinstance(data, dict):
        raise _wrong(index, "data", "Must be an object.")
    return Event(seq=seq, at=at, kind=kind, data=data)


def _wrong(index: int, name: str, problem: str) -> serializers.ValidationError:
    return serializers.ValidationError({str(index): {name: [problem]}})
