"""Moves a shard from one state to another: by compare-and-set, with a line in its history."""

from __future__ import annotations

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from shards.errors import WrongState
from shards.lifecycle.states import ALERTS, MOVES
from shards.models.shard import Shard
from shards.monitoring.alerts import alert
from shards.monitoring.models import StateChange

log = structlog.get_logger(__name__)


@transaction.atomic
def move(shard: Shard, to: str, *, reason: str = "", by: str = "", only_if: Q | None = None) -> bool:
    """Move a shard; False when it is there already.

    Args:
        shard: its state is read anew, and set on it.
        to: a state of ``shards.lifecycle.states``.
        reason: why, for operators.
        by: who; empty when a rule did it.
        only_if: what was seen of its row when this was decided; when that is not so any more, nothing is changed.

    Raises:
        WrongState: there is no such move from where it is.
    """
    # No key is changed: rows that refer to it, such as attempts, can be stored meanwhile.
    was = Shard.objects.select_for_update(no_key=True).values_list("state", flat=True).get(pk=shard.pk)
    if only_if is not None and not Shard.objects.filter(only_if, pk=shard.pk).exists():
        shard.state = was
        return False
    if was == to:
        shard.state = to
        return False
    if to not in MOVES[was]:
        raise WrongState(f"Shard {shard.name} is {was}; from there it cannot become {to}.")
    Shard.objects.filter(pk=shard.pk).update(state=to, state_since=Now(), state_reason=reason[:500])
    shard.state, shard.state_reason = to, reason[:500]
    note(shard, was, to, reason=reason, by=by)
    return True


def note(shard: Shard, was: str, state: str, *, reason: str, by: str) -> None:
    """Write a change of state down; whether it is worth an alert is in ``shards.lifecycle.states``."""
    StateChange.objects.create(shard=shard, was=was, state=state, reason=reason[:500], by=by[:150])
    log.info("shard.state", shard=shard.name, state=state, was=was, reason=reason)
    if kind := ALERTS.get((was, state)):
        said = reason[:1].upper() + reason[1:]
        alert(kind, f"Shard {shard.name} is {state}", f"Shard {shard.name} was {was} and is {state}. {said}".strip())
