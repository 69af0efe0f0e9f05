"""State transitions of shards: a compare-and-set update and an entry in the history."""

from __future__ import annotations

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from shards.errors import WrongState
from shards.lifecycle.states import ALERTS, MOVES
from shards.models import Shard
from shards.monitoring.alerts import alert
from shards.monitoring.models import StateChange

log = structlog.get_logger(__name__)


@transaction.atomic
def transition(shard: Shard, to: str, *, reason: str = "", by: str = "", expected: Q | None = None) -> bool:
    """Move a shard to a state; return False if nothing changed.

    Args:
        shard: its state is read from the database, and set on this object.
        to: a state of ``shards.lifecycle.states``.
        reason: for operators.
        by: actor; empty if a rule decided.
        expected: condition on its row; if the row no longer matches, nothing is changed.

    Raises:
        WrongState: the transition is not allowed.
    """
    # No key changes, so rows that refer to the shard, such as attempts, can be stored at the same time.
    was = Shard.objects.select_for_update(no_key=True).values_list("state", flat=True).get(pk=shard.pk)
    if expected is not None and not Shard.objects.filter(expected, pk=shard.pk).exists():
        shard.state = was
        return False
    if was == to:
        shard.state = to
        return False
    if to not in MOVES[was]:
        raise WrongState(f"Shard {shard.name} is {was} and cannot become {to}.")
    Shard.objects.filter(pk=shard.pk).update(state=to, state_since=Now(), state_reason=reason[:500])
    shard.state, shard.state_reason = to, reason[:500]
    record_transition(shard, was, to, reason=reason, by=by)
    return True


def record_transition(shard: Shard, was: str, state: str, *, reason: str, by: str) -> None:
    """Store a state change, and alert operators if ``shards.lifecycle.states.ALERTS`` lists it."""
    StateChange.objects.create(shard=shard, was=was, state=state, reason=reason[:500], by=by[:150])
    log.info("shard.state", shard=shard.name, state=state, was=was, reason=reason)
    if kind := ALERTS.get((was, state)):
        sentence = reason[:1].upper() + reason[1:]
        alert(
            kind, f"Shard {shard.name} is {state}", f"Shard {shard.name} was {was} and is {state}. {sentence}".strip()
        )
